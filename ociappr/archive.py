"""Archives: what the registry learns from a pushed tar.gz, in one pass, never unpacking it.

Nothing here trusts the archive: its output is capped absolutely (a ratio would refuse honest
archives and admit large bombs), members are counted, and only one bounded member is ever kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from ociappr.digest import ContentDigest, Hash, new_hash
from ociappr.errors import PackageInvalid, TooLarge

CHART_LIMIT = 1024 * 1024
"""The largest Chart.yaml that is read."""

_INPUT_BLOCK = 16 * 1024
_OUTPUT_BLOCK = 256 * 1024
_GZIP = 31  # zlib's wbits: a gzip wrapper and nothing else
_GZIP_MEMBERS = 65_536
_RECORD = 512
_NAME_LIMIT = 64 * 1024
_TAR_MEMBERS = 100_000
_CHART_DEPTH = 2
# POSIX.1-2008, pax, ustar Interchange Format; L, x: names that do not fit there
_REGULAR = frozenset(b"0\0" + b"7")
_WITHOUT_DATA = frozenset(b"123456")
_GNU_LONG_NAME, _PAX = ord("L"), ord("x")


@dataclass(frozen=True, slots=True)
class Archive:
    """What a tar.gz says: appr's digest, and its ``<directory>/Chart.yaml`` if there is one."""

    content_digest: ContentDigest
    chart: bytes | None


class Gunzip:
    """Gunzips a stream of blocks, one gzip member or many, up to *limit* bytes of output."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._seen = 0
        self._members = 1
        self._member = zlib.decompressobj(_GZIP)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what *data* adds in blocks of ≤ 256 KiB; raise `PackageInvalid`, `TooLarge`."""
        for start in range(0, len(data), _INPUT_BLOCK):
            # small blocks: zlib copies the rest of one whenever a member or an output block ends
            yield from self._feed_block(data[start : start + _INPUT_BLOCK])

    def finish(self) -> None:
        """Raise `PackageInvalid` unless the stream ended where a member ends."""
        if not self._member.eof:
            raise PackageInvalid("the archive is cut off, or no gzip stream")

    def _feed_block(self, block: bytes) -> Iterator[bytes]:
        while block:
            if self._member.eof:
                block = self._next_member(block)
                continue
            try:
                output = self._member.decompress(block, _OUTPUT_BLOCK)
            except zlib.error:
                raise PackageInvalid("the archive is no gzip stream, or damaged") from None
            block = self._member.unused_data or self._member.unconsumed_tail
            self._seen += len(output)
            if self._seen > self._limit:
                raise TooLarge(f"the archive unpacks to more than {self._limit} bytes")
            if output:
                yield output

    def _next_member(self, block: bytes) -> bytes:
        """Begin another member, unless what is left is padding: NULs, as some tools leave them."""
        block = block.lstrip(b"\0")
        if block:
            self._members += 1
            if self._members > _GZIP_MEMBERS:
                raise TooLarge(f"the archive has more than {_GZIP_MEMBERS} gzip members")
            self._member = zlib.decompressobj(_GZIP)
        return block


class ContentHash:
    """appr's digest of a gzip stream that comes in blocks; raises what `Gunzip` raises."""

    def __init__(self, *, limit: int) -> None:
        self._gunzip = Gunzip(limit=limit)
        self._hash = new_hash("sha256")

    def update(self, data: bytes) -> None:
        """Take the next block of the compressed stream."""
        for block in self._gunzip.feed(data):
            self._hash.update(block)

    def finish(self) -> ContentDigest:
        """Return the digest; raise `PackageInvalid` when the stream is cut off."""
        self._gunzip.finish()
        return ContentDigest(self._hash.hexdigest())


def inspect(data: bytes, *, limit: int) -> Archive:
    """Read the tar.gz *data*, which may unpack to *limit* bytes; this takes a while: use a thread.

    Raises `PackageInvalid` when it is no tar.gz, and `TooLarge`.
    """
    tar = _Tar(Gunzip(limit=limit), data)
    chart = _find_chart(tar)
    tar.drain()
    return Archive(ContentDigest(tar.hash.hexdigest()), chart)


class _Tar:
    """The gunzipped bytes as a stream to read and skip; all that passes is hashed."""

    def __init__(self, gunzip: Gunzip, data: bytes) -> None:
        self._gunzip = gunzip
        self._blocks = gunzip.feed(data)
        self._block = b""
        self.hash: Hash = new_hash("sha256")

    def read(self, size: int) -> bytes:
        """Return the next *size* bytes, fewer at the end."""
        taken = []
        while size and self._fill():
            taken.append(self._block[:size])
            self._block = self._block[size:]
            size -= len(taken[-1])
        return b"".join(taken)

    def skip(self, size: int) -> None:
        """Pass over *size* bytes."""
        while size and self._fill():
            step = min(size, len(self._block))
            self._block = self._block[step:]
            size -= step

    def drain(self) -> None:
        """Pass over the rest and check that the gzip stream ends well."""
        while self._fill():
            self._block = b""
        self._gunzip.finish()

    def _fill(self) -> bool:
        if not self._block:
            self._block = next(self._blocks, b"")
            self.hash.update(self._block)
        return bool(self._block)


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    kind: int
    size: int

    @property
    def stored(self) -> int:
        """How many bytes of the tar its data takes, padding included."""
        size = 0 if self.kind in _WITHOUT_DATA else self.size
        return -(-size // _RECORD) * _RECORD


def _find_chart(tar: _Tar) -> bytes | None:
    """Return the first ``<directory>/Chart.yaml``; raise `PackageInvalid` if this is no tar."""
    for member in _members(tar):
        if _is_chart(member):
            return tar.read(member.size)
        tar.skip(member.stored)
    return None


def _members(tar: _Tar) -> Iterator[_Member]:
    """Yield the members with their full names; who takes one reads or skips its data.

    A tar that breaks off later ends there: what else is in it is the pusher's affair.
    """
    override: _Member | None = None
    for number in range(_TAR_MEMBERS):
        header = tar.read(_RECORD)
        member = _parse_header(header)
        if member is None:
            if number == 0 and (len(header) < _RECORD or header.strip(b"\0")):
                raise PackageInvalid("the archive holds no tar")
            return
        if member.kind in (_GNU_LONG_NAME, _PAX):
            override = _read_override(tar, member)
            continue
        if override is not None:
            size = override.size if override.size >= 0 else member.size
            member = _Member(override.name or member.name, member.kind, size)
            override = None
        yield member


def _is_chart(member: _Member) -> bool:
    """Tell whether this is the Chart.yaml that Helm reads: a file in a top directory."""
    path = member.name.split("/")
    named = len(path) == _CHART_DEPTH and path[0] not in ("", ".", "..") and path[1] == "Chart.yaml"
    return named and member.kind in _REGULAR and member.size <= CHART_LIMIT


def _parse_header(header: bytes) -> _Member | None:
    """Return the member that a header record announces, or None if it is none (or the end)."""
    checksum, size = _number(header[148:156]), _number(header[124:136])
    blanked = header[:148] + b" " * 8 + header[156:]
    if len(header) < _RECORD or size is None or checksum is None or checksum != sum(blanked):
        return None
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and header[345]:
        name = header[345:500].partition(b"\0")[0] + b"/" + name
    return _Member(name.decode("utf-8", "replace"), header[156], size)


def _number(field: bytes) -> int | None:
    """Return a header's number: octal text, or base 256 where that is too short."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    return int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else None


def _read_override(tar: _Tar, member: _Member) -> _Member | None:
    """Return the name that a GNU or pax record gives the next member; its size is -1 if untold."""
    if member.size > _NAME_LIMIT:
        tar.skip(member.stored)
        return None
    data = tar.read(member.stored)[: member.size]
    if member.kind == _GNU_LONG_NAME:
        return _Member(data.partition(b"\0")[0].decode("utf-8", "replace"), 0, -1)
    records = _parse_pax(data)
    size = records.get(b"size", b"")
    name = records.get(b"path", b"").decode("utf-8", "replace")
    return _Member(name, 0, int(size) if size.isdigit() and len(size) <= 20 else -1)  # noqa: PLR2004


def _parse_pax(data: bytes) -> dict[bytes, bytes]:
    """Return the records ``<length> <key>=<value>`` up to the first malformed one."""
    records = {}
    while data:
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or len(length) > 5 or not 0 < int(length) <= len(data):  # noqa: PLR2004
            break
        key, _, value = data[len(length) + 1 : int(length)].removesuffix(b"\n").partition(b"=")
        records[key] = value
        data = data[int(length) :]
    return records
