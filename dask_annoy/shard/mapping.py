"""Files mapped read-only without a file descriptor, so that the limit on open files does not limit how many are mapped.

Python's ``mmap`` keeps a duplicate of the descriptor for each mapping, up to Python 3.13 always.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["map_file"]

_libc = ctypes.CDLL(None, use_errno=True)
_mmap = _libc.mmap
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_mmap.restype = ctypes.c_void_p
_munmap = _libc.munmap
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_munmap.restype = ctypes.c_int

_FAILED = ctypes.c_void_p(-1).value


class _Mapping:
    """The owner of mapped bytes; numpy keeps it as long as an array looks at them, and they are unmapped with it."""

    def __init__(self, descriptor: int, path: Path, size: int) -> None:
        address = _mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        if address == _FAILED:
            code = ctypes.get_errno()
            raise OSError(code, f"{os.strerror(code)}: its {size} bytes cannot be mapped", str(path))
        finalizer = weakref.finalize(self, _munmap, address, size)
        finalizer.atexit = False  # another thread may still look, and the process ends anyway
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "shape": (size,),
            "typestr": "|u1",
            "data": (address, True),  # read-only
        }


def map_file(descriptor: int, path: Path, size: int) -> npt.NDArray[np.uint8]:
    """The first bytes of an open file, mapped until the last view of them is gone.

    Parameters
    ----------
    descriptor : int
        Of the open file; may be closed afterwards.
    path : Path
        For errors.
    size : int
        Bytes: at least one, and no more than the file has.

    Raises
    ------
    OSError
        If the system cannot map the file; names it.
    """
    return np.asarray(_Mapping(descriptor, path, size))
