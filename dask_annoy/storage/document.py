"""The base of all JSON documents that are written, and how those of numbered formats are read."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from dask_annoy.errors import CorruptIndexError, FormatVersionError

__all__ = ["SEAL_FIELD", "Document", "parse_sealed", "parse_versioned", "sealed"]

#: The last field of a sealed document: the SHA-256 of all bytes before it, in hexadecimal.
SEAL_FIELD: Final = "sha256"
_SEAL: Final = re.compile(rb',\s{0,16}"sha256":\s?"([0-9a-f]{64})"\s{0,16}\}\s{0,16}\Z')
_LONGEST_SEAL: Final = 160


class Document(BaseModel):
    """A frozen record that is checked as strictly when it is made as when it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


AnyDocument = TypeVar("AnyDocument", bound=Document)


def sealed(document: Document) -> bytes:
    """The document as indented JSON that ends with its own checksum: a flipped bit is noticed, wherever it is."""
    body = document.model_dump_json(indent=2).encode().removesuffix(b"\n}")
    return body + f',\n  "{SEAL_FIELD}": "{hashlib.sha256(body).hexdigest()}"\n}}'.encode()


def parse_sealed(
    model: type[AnyDocument], payload: bytes, *, where: str, what: str, max_bytes: int
) -> AnyDocument:  # fmt: skip
    """Read a document that `sealed` has written, and that belongs to one release: its format has no number.

    Parameters and errors are those of `parse_versioned`.
    """
    _check_size(payload, where, what, max_bytes)
    return _parse(model, payload, where, what, is_sealed=True)


def parse_versioned(
    model: type[AnyDocument],
    payload: bytes,
    *,
    where: str,
    what: str,
    newest: int,
    max_bytes: int,
    version_field: str = "format_version",
    is_sealed: bool = False,
) -> AnyDocument:
    """Read a document from bytes that are not trusted.

    Parameters
    ----------
    model : type
    payload : bytes
        JSON.
    where : str
        The file's address without credentials, for the messages.
    what : str
        What the document is called: "manifest".
    newest : int
        The newest format that the model reads.
    max_bytes : int
        Larger documents are not even parsed.
    version_field : str
        Which field has the number of the format.
    is_sealed : bool
        Whether it must end with its checksum, as `sealed` writes it.

    Raises
    ------
    FormatVersionError
        If it is in a newer format.
    CorruptIndexError
        If it is damaged, cut or forged; names the file and the first problem.
    """
    _check_size(payload, where, what, max_bytes)
    try:
        found = _FIELDS.validate_json(payload).get(version_field)
    except ValidationError as error:
        raise _invalid(where, what, _first_problem(error)) from None
    if type(found) is int and found > newest:
        raise FormatVersionError(
            f"{where} has the format version {_brief(found)}, and this release knows those up to {newest}: "
            "upgrade dask-annoy"
        )
    return _parse(model, payload, where, what, is_sealed)


def _check_size(payload: bytes, where: str, what: str, max_bytes: int) -> None:
    if len(payload) > max_bytes:
        raise CorruptIndexError(f"{where} has {len(payload)} bytes: a {what} has at most {max_bytes}")


def _parse(model: type[AnyDocument], payload: bytes, where: str, what: str, is_sealed: bool) -> AnyDocument:
    seal = _SEAL.search(payload, max(0, len(payload) - _LONGEST_SEAL)) if is_sealed else None
    body = payload if seal is None else payload[: seal.start()]
    try:
        document = model.model_validate_json(payload if seal is None else body + b"}")
    except ValidationError as error:
        raise _invalid(where, what, _first_problem(error)) from None
    if is_sealed:
        if seal is None:
            raise _invalid(where, what, "it does not end with its checksum")
        if hashlib.sha256(body).hexdigest().encode() != seal[1]:
            raise _invalid(where, what, "its bytes do not have the checksum at its end")
    return document


def _invalid(where: str, what: str, problem: str) -> CorruptIndexError:
    return CorruptIndexError(f"{where} is not a valid {what}: {problem}")


_FIELDS = TypeAdapter(dict[str, Any])


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part)[:64] for part in problem["loc"][:8])
    message = problem["msg"].removeprefix("Value error, ")[:300]
    return f"{place}: {message}" if place else message


def _brief(number: int) -> str:
    return str(number) if abs(number) < 10**18 else "of more than 18 digits"
