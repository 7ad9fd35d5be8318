"""Parameters: of JSON body, query string and form fields, the first that has one counts.

JSON is looked for whatever the Content-Type says, as old clients and the documented examples send
it under any; a body that is no JSON object counts as none. Nothing here waits, but a push is large:
`merge` and `read_push` belong into a thread then.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import TypeAlias
from urllib.parse import parse_qsl

import msgspec

from ociappr.errors import (
    PackageInvalid,
    ReleaseInvalid,
    RequestInvalid,
    TooLarge,
)
from ociappr.package import parse_format
from ociappr.registry.submissions import Submission, examine
from ociappr.releases import Release

DEFAULT_FORMAT = "kpm"
"""The media type of a push that tells none."""

_FIELDS = 100
_FORM_LIMIT = 8 * 1024 * 1024  # decoding an escaped form takes ten times its size in memory
_ESCAPE = re.compile(rb"\\")
_PUSH_HINT = 'send a JSON object with "release", "media_type" and "blob", a tar.gz in base64'

Parameters: TypeAlias = Mapping[str, "str | msgspec.Raw"]
"""Texts from the query string or a form, JSON values from the body."""

_ABSENT = msgspec.Raw()


class _Body(msgspec.Struct):
    """The fields that mean something; others are passed over without being built."""

    namespace: msgspec.Raw = _ABSENT
    query: msgspec.Raw = _ABSENT
    q: msgspec.Raw = _ABSENT
    media_type: msgspec.Raw = _ABSENT
    release: msgspec.Raw = _ABSENT
    blob: msgspec.Raw = _ABSENT
    metadata: msgspec.Raw = _ABSENT
    force: msgspec.Raw = _ABSENT


class _User(msgspec.Struct):
    username: str
    password: str


class _Login(msgspec.Struct):
    user: _User


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class PushRequest:
    """What a push asks for; *metadata* is JSON text."""

    release: Release
    submission: Submission
    metadata: str | None
    force: bool


def merge(query: str, body: bytes, content_type: str) -> Parameters:
    """Return the parameters of a request; of one that is repeated the first counts.

    Raises `RequestInvalid` and `TooLarge` for forms that go too far.
    """
    fields = _first(_pairs(query))
    try:
        found = msgspec.structs.asdict(msgspec.json.decode(body, type=_Body))
    except _UNREADABLE:
        return {**_first(_form(body, content_type)), **fields}
    return {**fields, **{name: raw for name, raw in found.items() if raw is not _ABSENT}}


def text(parameters: Parameters, name: str) -> str | None:
    """Return a text, or None if it was not given or is null; else raise `RequestInvalid`."""
    value = _plain(parameters.get(name))
    if value is None or isinstance(value, str):
        return value
    raise RequestInvalid(f"{name} is not a text")


def read_push(parameters: Parameters, *, limit: int) -> PushRequest:
    """Return what a push asks for, its archive unpacked up to *limit* bytes; takes a while.

    Raises `ReleaseInvalid`, `MediaTypeInvalid`, `PackageInvalid`, `RequestInvalid`, `TooLarge`.
    """
    release, format_ = _release(parameters), _format(parameters)
    submission = examine(_blob(parameters), format_, limit=limit)
    metadata = _json(parameters.get("metadata"))
    return PushRequest(release, submission, metadata, _force(parameters))


def read_login(body: bytes) -> str:
    """Return the name of the user who logs in; raise `RequestInvalid` if a field is missing."""
    try:
        return msgspec.json.decode(body, type=_Login).user.username
    except _UNREADABLE:
        hint = 'send {"user": {"username": "…", "password": "…"}}'
        raise RequestInvalid("Missing username or password", hint=hint) from None


def _release(parameters: Parameters) -> Release:
    if "release" not in parameters:
        raise PackageInvalid("Missing release", hint=_PUSH_HINT)
    given = _plain(parameters["release"])
    if isinstance(given, str):
        return Release(given)
    message = "Invalid version string: no text"
    raise ReleaseInvalid(message, detail={"version": None}, hint=_PUSH_HINT)


def _format(parameters: Parameters) -> str:
    given = _plain(parameters.get("media_type", DEFAULT_FORMAT))
    return parse_format(given if isinstance(given, str) else "")


def _blob(parameters: Parameters) -> bytes:
    """Return the decoded archive; line breaks and other foreign characters are skipped."""
    value = parameters.get("blob", "")
    if isinstance(value, msgspec.Raw):
        view = memoryview(value)
        escaped = bytes(view[:1]) != b'"' or _ESCAPE.search(view)
        encoded: bytes | memoryview = str(_plain(value) or "").encode() if escaped else view[1:-1]
    else:
        encoded = value.encode()
    if not encoded:
        raise PackageInvalid("Missing blob", hint=_PUSH_HINT)
    try:
        decoded = binascii.a2b_base64(encoded)
    except binascii.Error as error:
        raise PackageInvalid(f"blob is not base64: {error}", hint=_PUSH_HINT) from None
    if not decoded:
        raise PackageInvalid("blob is not base64: no character of it is", hint=_PUSH_HINT)
    return decoded


def _force(parameters: Parameters) -> bool:
    """Tell whether to force: the text ``true`` as ever, or the word of JSON."""
    value = _plain(parameters.get("force"))
    return value is True or value == "true"


def _json(value: str | msgspec.Raw | None) -> str | None:
    """Return a value as JSON text as it came, None for null."""
    if not isinstance(value, msgspec.Raw):
        return None if value is None else msgspec.json.encode(value).decode()
    try:
        given = bytes(value).decode()
    except UnicodeDecodeError:
        raise RequestInvalid("metadata is no UTF-8") from None
    return None if given == "null" else given


def _plain(value: str | msgspec.Raw | None) -> object:
    """Return the value that a parameter has."""
    if not isinstance(value, msgspec.Raw):
        return value
    try:
        return msgspec.json.decode(value)
    except _UNREADABLE as error:
        raise RequestInvalid(f"the body is no JSON: {error}") from None


def _form(body: bytes, content_type: str) -> Iterator[tuple[str, str]]:
    """Yield the fields of a form, urlencoded or multipart; anything else has none."""
    header = _header("Content-Type", content_type)
    match header.get_content_type():
        case "application/x-www-form-urlencoded":
            if len(body) > _FORM_LIMIT:
                hint = "send JSON instead"
                raise TooLarge(f"forms have at most {_FORM_LIMIT} bytes", hint=hint)
            yield from _pairs(body.decode(errors="replace"))
        case "multipart/form-data":
            yield from _parts(body, str(header.get_param("boundary") or ""))


def _pairs(encoded: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(encoded, keep_blank_values=True, max_num_fields=_FIELDS)
    except ValueError:
        raise RequestInvalid(f"there are more than {_FIELDS} parameters") from None


def _parts(body: bytes, boundary: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of each part (RFC 7578)."""
    if not boundary:
        return
    # the first delimiter may stand at the very start, all others follow a line break
    delimiter = b"\r\n--" + boundary.encode(errors="replace")
    for part in (b"\r\n" + body).split(delimiter, _FIELDS)[1:]:
        head, _, content = part.partition(b"\r\n\r\n")
        for line in head.decode(errors="replace").split("\r\n"):
            name, _, value = line.partition(":")
            if name.lower() == "content-disposition":
                field = _header(name, value).get_param("name", header=name)
                yield str(field), content.decode(errors="replace")


def _header(name: str, value: str) -> Message:
    """Return *value* as the standard library reads parameters in it."""
    message = Message()
    message[name] = value
    return message


def _first(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found
