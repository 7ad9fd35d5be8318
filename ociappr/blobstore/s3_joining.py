"""How objects are joined on the server: which ranges it copies, and what must be sent again.

A part of a multipart upload has at least 5 MiB, copied or not, unless it is the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ociappr.blobstore import Locator, Part

MINIMUM = 5 * 1024**2
"""Bytes of a part that is not the last, at least."""

_RANGE = 64 * 1024**2  # larger ranges are copied no faster
_MOST = 9_000  # ranges of one object; 10,000 parts are allowed, and some are sent again


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes *start* to *stop* (exclusive) of an object."""

    locator: Locator
    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many bytes these are."""
        return self.stop - self.start


def plan(parts: Sequence[Part]) -> Iterator[Sequence[Range]]:
    """Yield what becomes the parts of the whole, in order: a single range of `MINIMUM` is copied.

    Several ranges, and a last one that is short, are read back and sent as one: less than thrice
    the minimum.
    """
    longest = max(_RANGE, sum(part.length for part in parts) // _MOST)
    run: list[Range] = []
    for part in parts:
        missing = max(MINIMUM - sum(one.size for one in run), 0) if run else 0
        # what would be left must be enough for a part of its own
        taken = missing if part.length - missing >= MINIMUM else part.length
        if taken:
            run.append(Range(part.locator, 0, taken))
        if sum(one.size for one in run) >= MINIMUM:
            yield run
            run = []
        yield from _cut(part, taken, longest)
    if run:
        yield run


def _cut(part: Part, start: int, longest: int) -> Iterator[Sequence[Range]]:
    """Yield ranges of about one size, so that the last is not too short."""
    rest = part.length - start
    count = -(-rest // longest)
    for number in range(count):
        first, last = (start + rest * step // count for step in (number, number + 1))
        yield [Range(part.locator, first, last)]
