from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dask_annoy.shard.columns import Column, header_of
from dask_annoy.shard.mapping import map_file


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def mapped_ranges(path: Path) -> int:
    return Path("/proc/self/maps").read_text().count(str(path))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell what is mapped")
def test_a_mapping_holds_no_descriptor_and_lasts_as_long_as_its_last_view(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    content = bytes(range(256)) * 100
    path.write_bytes(content)
    before = open_descriptors()
    with path.open("rb") as file:
        array = map_file(file.fileno(), path, len(content))
    assert open_descriptors() == before
    assert not array.flags.writeable
    view = array[1000:2000].view("<u4")
    del array
    path.unlink()  # as a clean-up does with shards that others have open
    assert view.tobytes() == content[1000:2000]
    assert mapped_ranges(path) == 1
    del view
    assert mapped_ranges(path) == 0


def test_what_cannot_be_mapped_is_named(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError, match=r"cannot be mapped.*no file"):
            map_file(reading, tmp_path / "no file", 100)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell what is mapped")
def test_a_closed_column_is_unmapped_once_nobody_looks_at_it(tmp_path: Path) -> None:
    path = tmp_path / "column.npy"
    values = np.arange(1000, dtype="<i8")
    path.write_bytes(header_of(values.dtype, 1000) + values.tobytes())
    column = Column(path, values.dtype, 1000)
    looking = column.array
    column.close()
    column.close()
    assert looking.tolist() == values.tolist()
    del looking
    assert mapped_ranges(path) == 0
    with pytest.raises(ValueError, match="was closed"):
        column.array  # noqa: B018 - asking is what raises
