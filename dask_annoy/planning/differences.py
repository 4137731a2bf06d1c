"""What tells two plans apart, in words: which parameter, or what about the input, was one thing and is another now."""

from __future__ import annotations

from typing import Final

from dask_annoy.planning.plan import BuildPlan, Identity

__all__ = ["differences", "identity_differences"]

_PARAMETERS: Final = ("metric", "width", "packed", "id_type", "n_trees", "seed", "target_recall", "n_rows")

#: What the keys of an identity are called. Values of the first kind are shown, those of the second say nothing.
_SHOWN: Final = {
    "url": "the URL",
    "size": "the size in bytes",
    "version": "the version (checksum, etag or time)",
    "files": "the number of files",
    "column": "the column",
    "rows": "the number of rows",
    "row_numbers": "the number of row numbers",
}
_HIDDEN: Final = {
    "array": "the values",
    "digest": "the content",
    "ids": "the ids",
    "versions": "the versions of the files",
}


def differences(before: BuildPlan, now: BuildPlan) -> list[str]:
    """What is different in `now`: ``["seed was 0 and is 1"]``; empty if nothing is."""
    found = [
        _changed(name, getattr(before, name), getattr(now, name))
        for name in _PARAMETERS
        if getattr(before, name) != getattr(now, name)
    ]
    if [slot.row_stop for slot in before.slots] != [
        slot.row_stop for slot in now.slots
    ] and before.n_rows == now.n_rows:
        found.append(_changed("shard_rows", before.shard_rows_rule, now.shard_rows_rule))
    found += identity_differences(before.identity, now.identity)
    found += _key_by_key(before.context, now.context, "")
    if before.builder_version != now.builder_version:
        found.append(_changed("the builder's version", before.builder_version, now.builder_version))
    return found


def identity_differences(before: Identity | None, now: Identity | None) -> list[str]:
    """The same for what tells two inputs apart."""
    if before is None or now is None:
        return []
    if _kinds(before) != _kinds(now):
        return ["the input is of another kind (a file, an array, a Dask collection) than before"]
    return _key_by_key(before, now, "input")


def _key_by_key(before: Identity, now: Identity, owner: str) -> list[str]:
    found = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        prefix, _, name = key.rpartition(".")
        whose = f" of the {prefix or owner}" if prefix or owner else ""
        if name in _HIDDEN:
            found.append(f"{_HIDDEN[name]}{whose} changed")
        else:
            found.append(_changed(f"{_SHOWN.get(name, name)}{whose}", old, new))
    return found


def _kinds(identity: Identity) -> set[str]:
    """The names of what identifies the vectors: they differ between files, arrays and collections."""
    return {key for key in identity if not key.startswith("ids") and key != "vectors.column"}


def _changed(what: str, before: object, now: object) -> str:
    return f"{what} was {_text(before)} and is {_text(now)}"


def _text(value: object) -> str:
    return "not given" if value is None else f"{value:.200}" if isinstance(value, str) else str(value)
