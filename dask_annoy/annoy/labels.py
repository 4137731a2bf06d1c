"""Labels of items: what `fit` was given as y."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Labels"]


@dataclass(frozen=True)
class Labels:
    """A label each for some items.

    Attributes
    ----------
    ids : int64 array of shape (n,)
        Item numbers, ascending.
    values : array of shape (n,) or (n, outputs)
    """

    ids: NDArray[np.int64]
    values: NDArray[Any]

    @classmethod
    def of(cls, y: ArrayLike, ids: NDArray[np.int64]) -> Labels:
        """Pair labels with items.

        Raises
        ------
        ValueError
            If there are not as many labels as items.
        """
        values = np.array(y)
        if values.ndim == 0 or len(values) != len(ids):
            found = "a single value" if values.ndim == 0 else f"{len(values)} labels"
            raise ValueError(f"y has {found} for {len(ids)} items: give one each")
        order = np.argsort(ids)
        return cls(ids[order], values[order])

    def followed_by(self, more: Labels) -> Labels:
        """Both together; the items of `more` are others."""
        return Labels.of(np.concatenate([self.values, more.values]), np.concatenate([self.ids, more.ids]))

    def take(self, items: NDArray[np.int64], fill_value: Any = None) -> NDArray[Any]:
        """Look labels up.

        Parameters
        ----------
        items : int64 array of any shape
        fill_value : object
            For items without a label.

        Returns
        -------
        array of the shape of `items` (and the outputs of a label)
            With the labels' dtype, if all items have one or it can hold the fill value; else of objects.
        """
        if not len(self.ids):
            return np.full((*items.shape, *self.values.shape[1:]), fill_value)
        place = np.minimum(np.searchsorted(self.ids, items), len(self.ids) - 1)
        found = self.values[place]
        unknown = self.ids[place] != items
        if not unknown.any():
            return found
        filler = np.asarray(fill_value)
        if np.result_type(found, filler) != found.dtype or filler.dtype.kind != found.dtype.kind:
            found = found.astype(object)
        found[unknown] = fill_value
        return found
