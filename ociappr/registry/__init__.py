"""The core: a registry as an object, over the two ports; HTTP only translates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from ociappr.blobstore import BlobStore
from ociappr.metadata import MetadataStore
from ociappr.registry.blobs import Blobs
from ociappr.registry.channels import Channels
from ociappr.registry.collector import Collector
from ociappr.registry.fsck import Fsck
from ociappr.registry.holdings import Holdings
from ociappr.registry.immutability import Immutability
from ociappr.registry.leases import Leases
from ociappr.registry.manifests import Manifests
from ociappr.registry.packages import Packages
from ociappr.registry.publishing import Publishing
from ociappr.registry.pulls import Pulls
from ociappr.registry.referrers import Referrers
from ociappr.registry.retiring import Retention
from ociappr.registry.schema import admit
from ociappr.registry.sessions import Sessions, shared_secret
from ociappr.registry.settings import Settings, Sparse
from ociappr.registry.steps import Pace
from ociappr.registry.tags import Tags
from ociappr.registry.uploads import Uploads

__all__ = ["Registry", "Settings", "Sparse", "utcnow"]


def utcnow() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


class Registry:
    """Wires the services; any number of these may run over the same two stores at once."""

    def __init__(
        self,
        metadata: MetadataStore,
        store: BlobStore,
        settings: Settings,
        *,
        secret: bytes,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        self.sessions = sessions = Sessions(metadata, secret, age=settings.session_age, now=now)
        self.blobs = Blobs(metadata, store, now=now)
        self.uploads = Uploads(metadata, store, sessions, settings, now=now)
        immutability = Immutability(settings.immutable)
        self.tags = Tags(metadata, immutability, now=now)
        self.manifests = Manifests(metadata, self.uploads, self.blobs, self.tags, settings, now=now)
        self.referrers = Referrers(metadata, self.manifests)
        self.packages = Packages(metadata, self.blobs, self.tags, self.manifests)
        self.publishing = Publishing(
            self.uploads,
            self.manifests,
            self.packages,
            immutability,
            manifest_limit=settings.manifest_limit,
            now=now,
        )
        self.channels = Channels(metadata, self.tags, self.packages, immutability, now=now)
        self.pulls = Pulls(metadata, now=now)
        self.leases = Leases(metadata, now=now)
        pace = Pace(settings.rate)
        self.retention = Retention(metadata, self.manifests, self.pulls, settings, pace, now=now)
        self.collector = Collector(metadata, store, sessions, settings, pace, now=now)
        self.holdings = Holdings(metadata, self.tags, self.retention, settings, now=now)
        self.fsck = Fsck(metadata, self.blobs, sparse=settings.sparse, now=now)

    @classmethod
    async def open(
        cls,
        metadata: MetadataStore,
        store: BlobStore,
        settings: Settings | None = None,
        *,
        now: Callable[[], datetime] = utcnow,
    ) -> Registry:
        """Return a registry over two open stores, which stay the caller's to close.

        Raises `StoreUnavailable` when this release must not serve what they hold.
        """
        await admit(metadata, store)
        secret = await shared_secret(metadata)
        return cls(metadata, store, settings or Settings(), secret=secret, now=now)
