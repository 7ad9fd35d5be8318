"""How a snapshot is written: one gzip stream of frames, of which the last one tells the sum.

A frame is two lengths (16 and 32 bits, big-endian), a key and a value. A frame without a key is a
JSON document about the snapshot: a `Header` first, an `Again` where a repository is told anew, an
`End` last, with the sha256 of all frames before it. Without a true `End` a snapshot is damaged.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass, field

import msgspec

from ociappr.metadata import MAX_KEY, MAX_VALUE

_LENGTHS = struct.Struct("!HI")
_GZIP = 31  # zlib's window bits for a gzip wrapper
_LEVEL = 6
_PIECE = 1024 * 1024  # bytes that are unpacked at once


class Header(msgspec.Struct, frozen=True, tag="snapshot"):
    """What a snapshot is of: the *schema* of its records, whose they are, when it was begun."""

    schema: int
    registry: str
    created: str


class Again(msgspec.Struct, frozen=True, tag="again"):
    """What was told of a *repository* (``r t m``) is void: it changed, and is told anew."""

    repository: str


class End(msgspec.Struct, frozen=True, tag="end"):
    """The sum: entries by their kind, and *unsettled* repositories that kept changing."""

    counts: dict[str, int]
    sha256: str
    unsettled: tuple[str, ...] = ()


class Record(msgspec.Struct, frozen=True):
    """A metadata entry."""

    key: bytes
    value: bytes


Remark = Header | Again | End
Frame = Record | Remark


class Damaged(Exception):
    """A snapshot is not whole, or not what was written."""


@dataclass(slots=True)
class Packer:
    """Makes the bytes of a snapshot out of frames, and knows the sum of what it was given."""

    counts: dict[str, int] = field(default_factory=dict)
    _running: hashlib._Hash = field(default_factory=hashlib.sha256)
    _zlib: zlib._Compress = field(
        default_factory=lambda: zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    )

    async def pack(self, *frames: Frame) -> bytes:
        """Return the next bytes, perhaps none yet."""
        raw = b"".join(map(self._raw, frames))
        return await asyncio.to_thread(self._squeeze, raw)

    async def end(self, unsettled: tuple[str, ...]) -> bytes:
        """Return the last bytes."""
        end = End(self.counts, self._running.hexdigest(), unsettled)
        return await self.pack(end) + self._zlib.flush()

    def _raw(self, frame: Frame) -> bytes:
        if isinstance(frame, Record):
            kind = chr(frame.key[0])
            self.counts[kind] = self.counts.get(kind, 0) + 1
            return _LENGTHS.pack(len(frame.key), len(frame.value)) + frame.key + frame.value
        text = msgspec.json.encode(frame)
        return _LENGTHS.pack(0, len(text)) + text

    def _squeeze(self, raw: bytes) -> bytes:
        self._running.update(raw)
        return self._zlib.compress(raw)


async def unpack(chunks: AsyncIterable[bytes]) -> AsyncIterator[Frame]:
    """Yield the frames of a snapshot, its `Header` first; raise `Damaged`, at the end at last.

    Who must not take half of a snapshot reads it to the end before.
    """
    running, buffer, last = hashlib.sha256(), bytearray(), None
    async for piece in _pieces(chunks):
        buffer += piece
        for frame, raw in _frames(buffer):
            if isinstance(last, End) or isinstance(frame, Header) is not (last is None):
                raise Damaged("its frames are out of order")
            if isinstance(frame, End) and frame.sha256 != running.hexdigest():
                raise Damaged("its sum is not that of its content")
            running.update(raw)
            last = frame
            yield frame
    if buffer or not isinstance(last, End):
        raise Damaged("it ends too early")


async def _pieces(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield what *chunks* unpack to, little by little."""
    unpacking = zlib.decompressobj(_GZIP)
    async for chunk in chunks:
        rest = chunk
        while rest:
            try:
                yield unpacking.decompress(rest, _PIECE)
            except zlib.error as error:
                raise Damaged(f"it cannot be unpacked ({error})") from error
            if unpacking.unused_data:
                raise Damaged("something follows its end")
            rest = unpacking.unconsumed_tail
    if not unpacking.eof:
        raise Damaged("it ends too early")


def _frames(buffer: bytearray) -> Iterator[tuple[Frame, bytes]]:
    """Take the whole frames off the beginning of *buffer*."""
    start = 0
    while len(buffer) >= start + _LENGTHS.size:
        key_length, length = _LENGTHS.unpack_from(buffer, start)
        if key_length > MAX_KEY or length > 2 * MAX_VALUE:
            raise Damaged("a frame has an impossible length")
        key_at = start + _LENGTHS.size
        value_at, stop = key_at + key_length, key_at + key_length + length
        if len(buffer) < stop:
            break
        value = bytes(buffer[value_at:stop])
        frame = Record(bytes(buffer[key_at:value_at]), value) if key_length else _remark(value)
        yield frame, bytes(buffer[start:stop])
        start = stop
    del buffer[:start]


def _remark(text: bytes) -> Remark:
    try:
        remark: Remark = msgspec.json.decode(text, type=Header | Again | End)
    except msgspec.MsgspecError as error:
        raise Damaged(f"a frame cannot be read ({error})") from error
    return remark
