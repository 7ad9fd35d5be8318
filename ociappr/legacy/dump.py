"""A JSON dump of the old server: read where it lies, an item at a time, however large it is.

One pass finds where each item begins and ends and keeps what is small of it; its archive is read
again when it is asked for. A dump that breaks off gives all that is complete.
"""

from __future__ import annotations

import asyncio
import mmap
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from ociappr.errors import NameInvalid, StoreUnavailable
from ociappr.legacy import Item, Loss, Lost, OldChannel, OldFormat, OldPackage, package_name
from ociappr.legacy.documents import ManifestDocument, format_of, noting, old_format, parse, shaped

# a bracket, a whole string (never tried again from its middle), or a quote that nothing closes
_TOKEN = re.compile(rb'[][{}]|"[^"\\]*+(?:\\.[^"\\]*+)*+"|"', re.DOTALL)
_SECTIONS = frozenset({b"packages", b"channels"})
_SECTION_DEPTH = 2
_SECTION_NAME = 16


class _Place(msgspec.Struct):
    """Where an item belongs."""

    package: str
    release: str
    mediaType: str  # noqa: N815 - the name in the dump
    channels: list[str] = msgspec.field(default_factory=list)


class _Channel(msgspec.Struct):
    name: str
    package: str
    current: str


class _Archive(msgspec.Struct):
    blob: str


@dataclass(frozen=True, slots=True)
class _Span:
    """Where an item lies in the file."""

    section: bytes
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Package:
    """What the first pass found of one package."""

    formats: list[OldFormat] = field(default_factory=list)
    current: dict[str, str] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def old(self, text: str) -> OldPackage:
        """Return the package called *text*, begun with its first release; `NameInvalid`."""
        channels = (
            OldChannel(name, current, tuple(sorted(self.members[name])))
            for name, current in sorted(self.current.items())
        )
        created = min((one.created for one in self.formats), default=None)
        return OldPackage(package_name(text), created, tuple(self.formats), tuple(channels))


class Dump:
    """The file at *path*; items of more than *limit* bytes are lost. Raises `StoreUnavailable`."""

    def __init__(self, path: Path, *, limit: int) -> None:
        self._path = path
        self._limit = limit
        try:
            with path.open("rb") as file:
                self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise StoreUnavailable(f"{path} cannot be read: {error}") from None

    async def packages(self) -> AsyncIterator[OldPackage | Loss]:
        """Yield what is lost, then all packages in the order of their names."""
        packages, losses = await asyncio.to_thread(self._survey)
        for loss in losses:
            yield loss
        for text, found in sorted(packages.items()):
            try:
                yield found.old(text)
            except NameInvalid as error:
                yield Loss(Item(text), str(Lost.because(error)))

    async def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _survey(self) -> tuple[dict[str, _Package], list[Loss]]:
        packages: dict[str, _Package] = defaultdict(_Package)
        losses: list[Loss] = []
        with noting(losses, Item(self._path.name)):
            for number, span in enumerate(self._spans(), 1):
                with noting(losses, Item(f"{self._path.name}, item {number}")):
                    self._sort_in(packages, span)
        return packages, losses

    def _sort_in(self, packages: dict[str, _Package], span: _Span) -> None:
        """Let one item be part of its package; raise `Lost`."""
        item = parse(self._bytes(span), object, "the item")
        if span.section == b"channels":
            channel = shaped(item, _Channel, "the channel")
            packages[channel.package].current[channel.name] = channel.current
            return
        place = shaped(item, _Place, "the item")
        manifest = shaped(item, ManifestDocument, "the item")
        load = partial(asyncio.to_thread, self._archive, span)
        package, format_ = packages[place.package], format_of(place.mediaType)
        package.formats.append(old_format(place.release, format_, manifest, load))
        for name in place.channels:
            package.members[name].add(place.release)

    def _archive(self, span: _Span) -> bytes:
        blob = parse(self._bytes(span), _Archive, "the item").blob
        return blob.encode("ascii", "replace")

    def _bytes(self, span: _Span) -> bytes:
        if span.stop - span.start > self._limit:
            raise Lost(f"it has {span.stop - span.start} bytes, more than {self._limit}")
        return self._file[span.start : span.stop]

    def _spans(self) -> Iterator[_Span]:
        """Yield the items of both sections; raise `Lost` at the end of a file that breaks off."""
        depth, start, section, is_dump = 0, 0, b"", False
        for token in _TOKEN.finditer(self._file):
            match self._file[token.start() : token.start() + 1]:
                case b"{" | b"[":
                    if depth == _SECTION_DEPTH:
                        start = token.start()
                    depth += 1
                case b"}" | b"]":
                    depth -= 1
                    if depth == _SECTION_DEPTH and section in _SECTIONS:
                        yield _Span(section, start, token.end())
                case _ if token.end() - token.start() == 1:
                    break  # a string that nothing closes
                case _ if depth == 1:
                    section = self._file[token.start() + 1 : token.end() - 1][:_SECTION_NAME]
                    is_dump = is_dump or section in _SECTIONS
        else:
            if depth == 0 and is_dump:
                return
        raise Lost("it is no dump, or breaks off: what is complete was taken")
