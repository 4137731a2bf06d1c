from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import build, growth, machine, offline_job, peers, report
from benchmarks.failure import BenchmarkError
from benchmarks.peers import Comparison
from benchmarks.tables import Table, megabytes, number, times

OPTIONS = {"threads": 2, "rounds": 3, "clock": "wall", "recall": 0.9, "budgets": [1000]}


def figure(engine: str, turn: int = 0, *, n: int = 1000, name: str = "text256", **parts: Any) -> dict[str, Any]:
    settings = {"n_trees": 50}
    common = {"set": name, "metric": "angular", "items": n, "width": 8, "raw": 32 * n, "engine": engine}
    return {**common, "settings": settings, "round": turn, **parts}


def built(seconds: float, size: int = 64_000) -> dict[str, Any]:
    spent = {"wall": seconds, "cpu": 2 * seconds}
    return {"build": spent, "save": {"wall": 0.5, "cpu": 0.5}, "peak": 3_000_000, "bytes": size}


def searched(*points: tuple[float, float]) -> dict[str, Any]:
    """Points of recall and queries per second; a single query is half as fast as one of a batch."""
    made = [
        {
            "settings": {"search_k": place},
            "recall": recall,
            "batch": {"queries": 100, "threads": 2, "wall": 100 / speed, "cpu": 100 / speed},
            "one": {"queries": 100, "threads": 1, "wall": 200 / speed, "cpu": 200 / speed},
        }
        for place, (recall, speed) in enumerate(points)
    ]
    return {"load": {"wall": 0.1, "cpu": 0.1}, "peak": 1_000_000, "points": made}


def document(claim: str, figures: list[dict[str, Any]]) -> dict[str, Any]:
    return {"claim": claim, "machine": machine.describe(), "options": OPTIONS, "figures": figures}


def cells(table: Table, first: str) -> dict[str, str]:
    (row,) = [row for row in table.rows if row[0] == first]
    return dict(zip(table.columns, row, strict=True))


def of_peers() -> dict[str, Any]:
    figures = []
    for turn, pace in enumerate((1.0, 0.1, 1.0)):  # the machine was busy in the second round
        figures += [
            figure("ours", turn, built=built(2), searched=searched((0.85, 3000 * pace), (0.999, 1200 * pace))),
            figure("annoy", turn, built=built(8), searched=searched((0.999, 100 * pace))),
            figure("hnswlib", turn, built=built(30), searched=searched((0.9, 500 * pace), (0.96, 400 * pace))),
        ]
    return document("peers", figures)


def test_ratios_are_taken_within_a_round() -> None:
    figures = of_peers()["figures"]
    figures[3]["searched"] = searched((0.999, 600.0))  # of ours, in the busy round
    compared = Comparison(figures, "batch", "wall")
    assert compared.speed("annoy", 0.9) == pytest.approx(100)
    assert compared.to_annoy("hnswlib", 0.9) == pytest.approx(5)
    assert compared.to_best_peer("annoy", 0.9) == pytest.approx(0.2)
    assert compared.to_best_peer("hnswlib", 0.99) is None


def test_the_best_peer_is_none_of_ours() -> None:
    compared = Comparison(of_peers()["figures"], "one", "wall")
    ours = compared.speed("ours", 0.95)
    assert ours is not None
    assert 600 < ours < 1500
    assert compared.to_best_peer("hnswlib", 0.9) == pytest.approx(5)  # annoy, though ours is faster
    assert compared.to_best_peer("ours", 0.99) == pytest.approx(compared.to_annoy("ours", 0.99))


def test_processor_time_counts_as_if_all_threads_had_been_busy() -> None:
    compared = Comparison(of_peers()["figures"], "batch", "cpu")
    assert compared.speed("annoy", 0.9) == pytest.approx(200)


def test_tables_of_peers_show_builds_batches_and_single_queries() -> None:
    builds, batches, singles = peers.tables(of_peers())
    assert cells(builds, "ours")["to annoy"] == "4.00×"
    assert cells(builds, "hnswlib")["bytes / raw"] == "2.00"
    assert cells(batches, "annoy")["@0.90"] == "100"
    assert cells(batches, "hnswlib")["@0.99"] == "–"
    assert cells(singles, "annoy")["@0.90"] == "50.0"


def test_an_engine_that_failed_is_shown_as_failed() -> None:
    figures = [*of_peers()["figures"], figure("voyager", failed="killed")]
    table = peers.tables(document("peers", figures))[0]
    assert cells(table, "voyager")["settings"] == "failed: killed"


def test_a_build_is_compared_with_annoys_of_the_same_round() -> None:
    point = [{"settings": {}, "recall": 0.8}]
    figures = [
        figure(engine, turn, built=built(seconds * pace), searched={"points": point})
        for turn, pace in enumerate((1, 9, 1))
        for engine, seconds in (("ours", 1.0), ("annoy", 6.0))
    ]
    figures[0]["searched"] = {"points": [{"settings": {}, "recall": 0.82}]}
    figures[2]["searched"] = {"points": [{"settings": {}, "recall": 0.82}]}
    (table,) = build.tables(document("build", figures))
    row = cells(table, "text256, ours")
    assert (row["build s"], row["to annoy"], row["recall, budget 1,000"]) == ("1.00", "6.00×", "0.820")
    assert row["less annoy's"] == "+0.020"


def answered(seconds: float, recall: float = 0.91) -> dict[str, Any]:
    spent = {"wall": seconds, "cpu": seconds}
    return {"load": {"wall": 0.5, "cpu": 0.5}, "search": spent, "peak": 1, "queries": 1000, "recall": recall}


def test_the_offline_job_is_all_its_seconds_and_the_shortest_comes_first() -> None:
    search = {"search_k": 7}
    figures = [
        figure("annoy", built=built(1), search=search, answered=answered(10)),
        figure("hnswlib", built=built(9), search=search, answered=answered(1, recall=0.89)),
        figure("ours", built=built(1), search=search, answered=answered(1)),
        figure("voyager", built=built(1), failed="no setting found 0.90"),
    ]
    (table,) = offline_job.tables(document("offline_job", figures))
    assert [row[0].split(",")[0] for row in table.rows] == ["ours", "hnswlib", "annoy", "voyager"]
    row = cells(table, "ours, n_trees 50")
    assert row["job s"] == "3.00"
    assert row["best peer / this"] == "4.00×"  # annoy's twelve seconds: hnswlib found too little
    assert cells(table, "hnswlib, n_trees 50")["recall"] == "0.890 (too low)"
    assert cells(table, "voyager, n_trees 50")["search"] == "no setting found 0.90"


def of_growth() -> dict[str, Any]:
    sizes = (1000, 2000, 4000)
    figures = [
        figure("ours", n=n, built=built(1e-6 * n**1.5, 100 * n), searched=searched((0.9, 1e6 / n**0.5))) for n in sizes
    ]
    return document("growth", figures)


def test_exponents_of_growth_are_those_of_the_costs() -> None:
    tables = {table.title: table for table in growth.tables(of_growth())}
    assert cells(tables["text256: build, thread µs an item"], "ours")["exponent"] == "+0.50"
    assert cells(tables["text256: query, thread µs, at recall 0.90"], "ours")["exponent"] == "+0.50"
    assert cells(tables["text256: bytes an item"], "ours")["4,000"] == "100"


def test_a_billion_items_cost_what_their_shards_cost() -> None:
    table = growth.tables(of_growth())[-1]
    row = cells(table, "ours")
    # 1000 shards of a million: 2e-6 * 1e6**1.5 thread seconds each to build, 2e-6 * 1000 to ask
    assert row["build, thread hours, shards of 1,000,000"] == number(1000 * 2000 / 3600)
    assert table.rows[0][2] == number(1000 * 2e-6 * 1000 * 1e3)
    assert table.rows[0][3] == "0.10"


def test_the_page_gets_figures_between_its_marks_however_often(tmp_path: Path) -> None:
    page = f"# Speed\n\nBefore.\n\n{report.BEGIN}\n{report.END}\n\nAfter.\n"
    once = report.inserted(page, "old figures", "page.md")
    twice = report.inserted(once, "new figures", "page.md")
    assert "old figures" in once
    assert "old figures" not in twice
    assert "new figures" in twice
    assert twice.startswith("# Speed\n\nBefore.")
    assert twice.endswith("\n\nAfter.\n")


@pytest.mark.parametrize("page", ["", report.BEGIN, f"{report.END}\n{report.BEGIN}", 2 * (report.BEGIN + report.END)])
def test_a_page_without_its_marks_is_left_alone(page: str) -> None:
    with pytest.raises(BenchmarkError, match="must have the line"):
        report.inserted(page, "figures", "page.md")


@pytest.mark.parametrize("made", [of_peers(), of_growth()], ids=["peers", "growth"])
def test_sections_have_conditions_tables_and_pictures(made: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    text = report.section(json.loads(json.dumps(made)), tmp_path / "performance")
    assert "Medians of 3 rounds; wall time." in text
    assert "| ours |" in text
    (picture,) = (tmp_path / "performance").iterdir()
    assert f"](performance/{picture.name})" in text
    assert "<svg" in picture.read_text()


@pytest.mark.parametrize("text", ["", "[]", '{"claim": "speed of light"}'])
def test_a_file_without_figures_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(BenchmarkError, match=r"x\.json is no file of figures"):
        report.read(path)


def test_numbers_have_three_digits_that_count() -> None:
    assert [number(value) for value in (None, 0.123, 1.234, 12.34, 123.4, 12345.0)] == [
        "–",
        "0.12",
        "1.23",
        "12.3",
        "123",
        "12,300",
    ]
    assert (times(None), times(2.0), megabytes(1_500_000), megabytes(None)) == ("–", "2.00×", "2", "–")
