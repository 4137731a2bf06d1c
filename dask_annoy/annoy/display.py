"""How an index shows itself in a notebook."""

from __future__ import annotations

from html import escape

from dask_annoy import _native

__all__ = ["html_table", "state_of"]


def state_of(index: _native.AnnoyIndex) -> str:
    """Say in words whether an index is built, and where it lies."""
    if index.closed:
        return "closed"
    status = index._status()
    if status["file"] is not None:
        return f"mapped from {status['file'][0]}"
    if status["is_loaded"]:
        return "loaded, in memory"
    where = "in memory" if status["building_file"] is None else f"on disk, in {status['building_file']}"
    return f"{'built' if status['is_built'] else 'not built'}, {where}"


def html_table(title: str, index: _native.AnnoyIndex) -> str:
    """Return a table of what an index is."""
    rows = {"metric": index.metric, "dimensions": f"{index.f:,}", "state": state_of(index)}
    if not index.closed:
        status = index._status()
        rows |= {
            "items": f"{status['n_items']:,}",
            "trees": f"{status['n_trees']:,}",
            "cells": f"{status['n_cells']:,}",
            "bytes": f"{status['n_bytes']:,}",
        }
    body = "".join(
        f'<tr><th style="text-align: left">{name}</th><td style="text-align: left">{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f"<table><caption>{escape(title)}</caption><tbody>{body}</tbody></table>"
