"""What a registry takes along when it moves: every kind of key stands in one of these."""

from __future__ import annotations

from ociappr.registry import keys
from ociappr.registry.schema import CLAIM_KEY, SCHEMA_KEY, SECRET_KEY

BLOBS = "bio"
"""Blobs: their records name places, which differ between stores."""

CONTENT = "lmpfahtr"
"""The same wherever it is stored; every change of it is in the journal."""

LOOSE = "kg"
"""Taken along too; but they change without an entry in the journal, some of them by mere reads."""

JOURNAL = "e"

LEFT = "ux"
"""Upload sessions and the bin: what is under way. Only a snapshot takes the bin along."""

DERIVED = "opfah"
"""Computed again when a snapshot is restored."""

_OWN = frozenset({CLAIM_KEY, SCHEMA_KEY, SECRET_KEY})
_LEASES = keys.shared("lease", "")


def stays(key: bytes) -> bool:
    """Tell whether a shared key is of this place only: made anew elsewhere, or a lease."""
    return key in _OWN or key.startswith(_LEASES)
