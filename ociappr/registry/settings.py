"""What can be set about the core; `ociappr.config` fills it in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from ociappr.registry.rules import ImmutableRule, RetentionRule


class Sparse(Enum):
    """Which manifests may name content that the repository does not hold."""

    NONE = "none"
    INDEXES = "indexes"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits in bytes, ages as `timedelta`; *rate* in items a second, 0 for as fast as can be."""

    sparse: Sparse = Sparse.INDEXES
    manifest_limit: int = 4 * 1024 * 1024
    inline_limit: int = 16 * 1024
    small_body: int = 256 * 1024
    unpacked_limit: int = 1024 * 1024 * 1024
    cache_bytes: int = 64 * 1024 * 1024
    open_uploads: int = 1_000
    grace: timedelta = timedelta(hours=24)
    session_age: timedelta = timedelta(days=7)
    journal_age: timedelta = timedelta(days=30)
    retention: tuple[RetentionRule, ...] = ()
    immutable: tuple[ImmutableRule, ...] = ()
    rate: int = 0
