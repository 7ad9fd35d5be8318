"""The messages of etcd's JSON gateway, as far as they are used; bytes travel in base64."""

from __future__ import annotations

import msgspec


class Range(msgspec.Struct, frozen=True, omit_defaults=True):
    """Read one key, or those from *key* to *range_end*; in byte order unless it is reversed.

    No order is asked for where byte order will do: etcd would read the whole range to sort it.
    """

    key: bytes
    range_end: bytes = b""
    limit: int = 0
    sort_order: str = ""
    revision: int = 0
    count_only: bool = False


class Put(msgspec.Struct, frozen=True):
    """Set a key."""

    key: bytes
    value: bytes


class DeleteRange(msgspec.Struct, frozen=True):
    """Remove a key."""

    key: bytes


class Operation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the three."""

    request_range: Range | None = None
    request_put: Put | None = None
    request_delete_range: DeleteRange | None = None


class Compare(msgspec.Struct, frozen=True, omit_defaults=True):
    """What must hold for one key, or for every key up to *range_end*."""

    key: bytes
    target: str
    range_end: bytes = b""
    create_revision: int | None = None
    mod_revision: int | None = None


class Txn(msgspec.Struct, frozen=True, omit_defaults=True):
    """Do all of *success* if all of *compare* holds."""

    compare: tuple[Compare, ...] = ()
    success: tuple[Operation, ...] = ()


class Login(msgspec.Struct, frozen=True):
    """Ask for a token."""

    name: str
    password: str


class KeyValue(msgspec.Struct, frozen=True):
    """A key as it was read."""

    key: bytes
    mod_revision: int
    value: bytes = b""


class Found(msgspec.Struct, frozen=True):
    """What a range holds."""

    kvs: tuple[KeyValue, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """The answer of one operation."""

    response_range: Found = Found()


class Header(msgspec.Struct, frozen=True):
    """How far the store had come."""

    revision: int


class Reply(msgspec.Struct, frozen=True):
    """The answer to a range, or to a transaction."""

    header: Header
    kvs: tuple[KeyValue, ...] = ()
    succeeded: bool = False
    responses: tuple[Answer, ...] = ()


class Token(msgspec.Struct, frozen=True):
    """The answer to a login."""

    token: str


class Failure(msgspec.Struct, frozen=True):
    """Why there is no answer; *code* is gRPC's."""

    message: str = ""
    code: int = 2
