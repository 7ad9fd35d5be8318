"""A byte-bounded cache of raw manifests by digest: what it holds can never be stale."""

from __future__ import annotations

from collections import OrderedDict

from ociappr.digest import Digest

_OVERHEAD = 200


class ManifestCache:
    """Keeps the bytes that were used last, up to a number of bytes in all."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._kept: OrderedDict[Digest, bytes] = OrderedDict()

    def get(self, digest: Digest) -> bytes | None:
        """Return the bytes of *digest* if they are kept."""
        raw = self._kept.get(digest)
        if raw is not None:
            self._kept.move_to_end(digest)
        return raw

    def put(self, digest: Digest, raw: bytes) -> None:
        """Keep *raw*, and drop what was not used for longest."""
        if digest in self._kept:
            return
        self._kept[digest] = raw
        self._used += len(raw) + _OVERHEAD
        while self._used > self._capacity:
            _, dropped = self._kept.popitem(last=False)
            self._used -= len(dropped) + _OVERHEAD
