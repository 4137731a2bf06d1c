"""Settings: read from Dask's configuration when a call is made, and passed down to wherever the work runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import yaml
from dask.utils import parse_bytes

__all__ = ["Settings", "current_settings"]


@dataclass(frozen=True)
class Settings:
    """What the configuration under ``annoy`` says.

    Attributes
    ----------
    scratch_directory, cache_directory : str or None
        None leaves the choice to the place where a task runs.
    block_bytes, cache_bytes : int
    """

    scratch_directory: str | None
    block_bytes: int
    cache_directory: str | None
    cache_bytes: int


def current_settings() -> Settings:
    """Read the configuration."""
    return Settings(
        scratch_directory=dask.config.get("annoy.scratch-directory"),
        block_bytes=_size("annoy.block-size"),
        cache_directory=dask.config.get("annoy.cache.directory"),
        cache_bytes=_size("annoy.cache.size"),
    )


def _size(key: str) -> int:
    value = dask.config.get(key)
    try:
        size = int(parse_bytes(value))
    except (ValueError, TypeError, AttributeError, OverflowError):
        size = 0
    if size < 1:
        raise ValueError(f"the setting {key} is {value!r}: expected a size such as 16 MiB")
    return size


def _register_defaults() -> None:
    with Path(__file__).with_name("annoy.yaml").open() as file:
        defaults: dict[str, Any] = yaml.safe_load(file)
    dask.config.update_defaults(defaults)


_register_defaults()
