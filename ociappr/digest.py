"""Digests: of bytes (OCI's), and of a gunzipped tar (appr's); the two never mix."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from ociappr.errors import DigestInvalid, SizeInvalid


class Hash(Protocol):
    """What this project uses of ``hashlib``'s objects."""

    def update(self, block: bytes, /) -> None:
        """Take the next block."""

    def hexdigest(self) -> str:
        """Return what was taken so far, as lower-case hex."""


_HASHES: Mapping[str, Callable[[], Hash]] = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}
_HEX_LENGTH: Mapping[str, int] = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")


def new_hash(algorithm: str) -> Hash:
    """Return a fresh hash; raise `DigestInvalid` for an algorithm that is not supported."""
    try:
        return _HASHES[algorithm]()
    except KeyError:
        supported = ", ".join(_HASHES)
        message = f"digest algorithm {algorithm[:32]!a} is not supported"
        raise DigestInvalid(message, hint=f"use one of {supported}") from None


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """The digest of stored bytes: ``algorithm:hex`` (image-spec, descriptor.md, Digests).

    Raises `DigestInvalid` for another algorithm than sha256 and sha512 or malformed hex.
    """

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        length = _HEX_LENGTH.get(self.algorithm)
        if length is None:
            new_hash(self.algorithm)
        if len(self.hex) != length or not _HEX.fullmatch(self.hex):
            message = f"{self.algorithm} digests have {length} lower-case hex digits"
            raise DigestInvalid(message, detail={"digest": str(self)})

    @classmethod
    @lru_cache(maxsize=4096)  # what is pulled once is pulled often
    def parse(cls, text: str) -> Digest:
        """Return the digest that *text* spells."""
        algorithm, colon, hex_part = text.partition(":")
        if not colon:
            message = "a digest reads algorithm:hex"
            raise DigestInvalid(message, detail={"digest": text})
        return cls(algorithm, hex_part)

    @classmethod
    def of(cls, data: bytes, *, algorithm: str = "sha256") -> Digest:
        """Return the digest of *data*."""
        running = new_hash(algorithm)
        running.update(data)
        return cls(algorithm, running.hexdigest())

    def __str__(self) -> str:
        """Return the canonical text."""
        return f"{self.algorithm}:{self.hex}"


@dataclass(frozen=True, slots=True, order=True)
class ContentDigest:
    """appr's digest: sha256 of the *gunzipped* tar, bare lower-case hex (never of stored bytes)."""

    hex: str

    def __post_init__(self) -> None:
        if len(self.hex) != _HEX_LENGTH["sha256"] or not _HEX.fullmatch(self.hex):
            message = "a content digest has 64 lower-case hex digits"
            raise DigestInvalid(message, detail={"digest": self.hex})

    def __str__(self) -> str:
        """Return the bare hex."""
        return self.hex


async def verified(
    chunks: AsyncIterable[bytes], digest: Digest, *, size: int | None = None
) -> AsyncIterator[bytes]:
    """Yield *chunks* unchanged; raise at the end unless they are what *digest* and *size* say.

    Raises `DigestInvalid` or `SizeInvalid`, the latter as soon as too many bytes came.
    """
    running, seen = new_hash(digest.algorithm), 0
    async for chunk in chunks:
        seen += len(chunk)
        if size is not None and seen > size:
            raise SizeInvalid(f"more than the announced {size} bytes came")
        running.update(chunk)
        yield chunk
    if size is not None and seen != size:
        raise SizeInvalid(f"{seen} bytes came where {size} were announced")
    check(running, digest)


def check(running: Hash, digest: Digest) -> None:
    """Raise `DigestInvalid` unless what *running* has seen has *digest*."""
    found = Digest(digest.algorithm, running.hexdigest())
    if found != digest:
        raise DigestInvalid(
            "the bytes do not have the digest that was given",
            detail={"given": str(digest), "computed": str(found)},
        )
