"""Write the figures of measurements as Markdown, with their pictures.

    python -m benchmarks.report results/*.json [--into docs/performance.md]

Without --into the text goes to standard output. With it, what stands in the page between its two marks is replaced, and
the pictures are drawn in the folder `performance` beside the page. Of two files of one claim, the later named counts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import build, growth, offline_job, peers
from benchmarks.failure import BenchmarkError
from benchmarks.machine import in_words
from benchmarks.options import run

BEGIN, END = "<!-- figures: written by benchmarks.report -->", "<!-- end of figures -->"
HEADS = {
    peers.CLAIM: "Speed at fixed recall",
    build.CLAIM: "Building",
    offline_job.CLAIM: "The offline job",
    growth.CLAIM: "How the cost grows",
}
TABLES = {peers.CLAIM: peers.tables, build.CLAIM: build.tables, offline_job.CLAIM: offline_job.tables}
TABLES[growth.CLAIM] = growth.tables
PICTURES = {peers.CLAIM: peers.draw, growth.CLAIM: growth.draw}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+", help="files that the commands wrote")
    parser.add_argument("--into", type=Path, help="a page with the marks")
    options = parser.parse_args()
    documents = {document["claim"]: document for document in map(read, options.results)}
    pictures = options.into.parent / "performance" if options.into else None
    text = "\n\n".join(section(documents[claim], pictures) for claim in HEADS if claim in documents)
    if options.into is None:
        print(text)
    else:
        options.into.write_text(inserted(options.into.read_text(), text, str(options.into)))


def read(path: Path) -> dict[str, Any]:
    """The document in a file."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{path} is no file of figures: {error}") from error
    if not isinstance(document, dict) or document.get("claim") not in HEADS:
        raise BenchmarkError(f"{path} is no file of figures: expected a claim, one of {', '.join(HEADS)}")
    return document


def section(document: dict[str, Any], pictures: Path | None) -> str:
    """A claim's heading, conditions, tables and pictures; without a folder no pictures."""
    options = document["options"]
    seconds = "wall time" if options.get("clock", "wall") == "wall" else "processor time"
    conditions = f"{in_words(document['machine'])}. Medians of {options['rounds']} rounds; {seconds}."
    parts = [f"### {HEADS[document['claim']]}", conditions]
    parts += [table.markdown() for table in TABLES[document["claim"]](document)]
    if pictures is not None and document["claim"] in PICTURES:
        drawn = PICTURES[document["claim"]](document, pictures)
        parts += [f"![{path.stem}]({pictures.name}/{path.name})" for path in drawn]
    return "\n\n".join(parts)


def inserted(page: str, text: str, name: str) -> str:
    """The page with the text between its marks."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise BenchmarkError(f"{name} must have the line {BEGIN} and after it the line {END}, each once")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    run(main)
