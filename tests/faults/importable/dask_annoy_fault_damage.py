"""One damaged file in a folder: what using the index then comes to. Importable by processes that tests start."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from dask_annoy_fault_life import CONTENTS, EVERYTHING, ROWS, RULES, built, check_holds, opened, use_fresh_cache

from dask_annoy import build_index
from dask_annoy.errors import DaskAnnoyError
from dask_annoy.storage import IndexFolder, read_manifest

TAG = "kept"


@dataclass(frozen=True)
class Damage:
    """What is done to one file: cut to a length, or one bit flipped."""

    name: str
    cut_to: int | None = None
    bit: int | None = None

    def apply(self, payload: bytes) -> bytes:
        if self.cut_to is not None:
            return payload[: self.cut_to]
        assert self.bit is not None
        changed = bytearray(payload)
        changed[self.bit // 8] ^= 1 << self.bit % 8
        return bytes(changed)


def cuts(name: str, size: int) -> list[Damage]:
    """A file cut at each power of two, at nothing, and by its last byte."""
    lengths = {0, size - 1, *(1 << power for power in range(size.bit_length()) if 1 << power < size)}
    return [Damage(name, cut_to=length) for length in sorted(lengths)]


def names_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def drawn(folder: Path, number: int) -> Damage:
    """Damage number so and so: always the same; kinds of files come equally often, whatever their number and size."""
    dice = random.Random(number)
    kinds: dict[str, list[str]] = {}
    for name in names_of(folder):
        parts = name.split("/")
        kinds.setdefault(parts[-1] if parts[0] == "shards" else parts[0] + ("/plan" in name) * " plan", []).append(name)
    name = dice.choice(kinds[dice.choice(sorted(kinds))])
    size = (folder / name).stat().st_size
    return dice.choice(cuts(name, size)) if dice.random() < 0.25 else Damage(name, bit=dice.randrange(size * 8))


def string_ids() -> Any:
    return np.array([f"id {number}\0é" for number in range(120)], object)


def build_with_strings(folder: IndexFolder) -> None:
    build_index(ROWS[:120], folder.url, ids=string_ids(), **RULES, client=False)


def try_integers(folder: IndexFolder) -> None:
    """Use all that there is of an index after the step "delete": raise AssertionError if anything is wrong."""
    newest = opened(folder, False)
    check_holds(newest, CONTENTS["delete"])
    for version, step in enumerate(("build", "append", "upsert"), start=1):
        check_holds(opened(folder, False, version), CONTENTS[step])
    check_holds(opened(folder, False, TAG), CONTENTS["append"])
    described = [(info.version, info.operation, info.tags) for info in newest.versions()]
    operations = ["build", "append", "upsert", "delete"]
    expected = [(n, operation, (TAG,) if n == 2 else ()) for n, operation in enumerate(operations, start=1)]
    assert described == expected, described
    left = {key: row for key, row in CONTENTS["delete"].items() if key not in (95, 150, 120)}
    check_holds(newest.delete([95, 150, 120]), left)
    check_holds(newest.rollback(TAG) if opened(folder, False).version == 4 else newest, CONTENTS["delete"])


def try_strings(folder: IndexFolder) -> None:
    """Use all that there is of an index with string ids."""
    index = opened(folder, False)
    found = index.query(ROWS[:120], k=1, search_k=EVERYTHING)
    assert found.ids[:, 0].tolist() == string_ids().tolist()
    assert len(index.delete(string_ids()[::7])) == 102


def try_to_resume(folder: IndexFolder) -> None:
    """Build again where the version is missing, from the receipts of the first time."""
    (name,) = folder.list("versions")
    first = read_manifest(folder, 1)
    folder.delete([f"versions/{name}"])
    again = built(folder, False)
    check_holds(again, CONTENTS["build"])
    assert again.manifest.tuning == first.tuning, "the figures of a damaged receipt were believed"


def outcome(source: Path, use: Callable[[IndexFolder], None], damage: Damage, is_remote: bool) -> str | None:
    """Use a damaged copy of an index with fresh caches; say what is wrong, if it neither is right nor refused."""
    work = Path(tempfile.mkdtemp(prefix="damaged-"))
    url = f"memory://{uuid.uuid4().hex}" if is_remote else str(work / "index")
    memory = fsspec.filesystem("memory")
    use_fresh_cache(work / "cache")
    try:
        for name in names_of(source):
            payload = (source / name).read_bytes()
            if name == damage.name:
                payload = damage.apply(payload)
            if is_remote:
                memory.pipe_file(f"{url}/{name}", payload)
            else:
                path = work / "index" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if name == damage.name:
                    path.write_bytes(payload)
                else:
                    os.link(source / name, path)  # nothing is ever written in place
        use(IndexFolder(url))
    except DaskAnnoyError as error:
        if damage.name not in str(error):
            return f"{damage}, remote={is_remote}: refused without naming it: {type(error).__name__}: {error}"
    except Exception as error:
        return f"{damage}, remote={is_remote}: {type(error).__name__}: {error}"
    finally:
        if is_remote:
            memory.rm(url, recursive=True)
        shutil.rmtree(work)
    return None


def many(sources: dict[str, Path], numbers: range) -> list[str]:
    """Outcomes of damages by number that are wrong."""
    wrong = []
    for number in numbers:
        kind = ("integers", "integers", "strings", "resume")[number % 4]
        source = sources[kind]
        trouble = outcome(source, USES[kind], drawn(source, number), is_remote=number // 4 % 2 == 1)
        if trouble is not None:
            wrong.append(f"{number}, {kind}: {trouble}")
    return wrong


def cut_many(source: Path, kind: str, damages: list[Damage], is_remote: bool) -> list[str]:
    """Outcomes of these damages that are wrong."""
    return [trouble for damage in damages if (trouble := outcome(source, USES[kind], damage, is_remote))]


USES: dict[str, Callable[[IndexFolder], None]] = {
    "integers": try_integers,
    "strings": try_strings,
    "resume": try_to_resume,
}
