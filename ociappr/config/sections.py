"""All settings with their defaults, in sections; what follows from them is a property.

A setting is one line here, its constraints if it has any in `ociappr.config.constraints`, and one
row in docs/configuration.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

import msgspec

from ociappr.config.errors import ConfigError
from ociappr.config.quantities import Duration, Size
from ociappr.config.secret import Secret
from ociappr.forwarded import TrustedProxies
from ociappr.registry.rules import ImmutableRule, RetentionRule
from ociappr.registry.settings import Sparse

MANIFEST_MINIMUM = 4 * 1024**2
"""Manifests of this size every registry takes, as distribution-spec wants."""

_IN_MEMORY = frozenset({"redis", "rediss", "etcd", "etcds"})
_LAST_PORT = 65535


class Section(msgspec.Struct, frozen=True):
    """A group of settings."""


class ServerSection(Section, frozen=True):
    """How the server listens, and how long it waits."""

    listen: str = "127.0.0.1:5000"
    workers: int = 1
    stall: Duration = Duration(seconds=60)
    keepalive: Duration = Duration(seconds=75)
    notice: Duration = Duration(seconds=0)
    drain: Duration = Duration(seconds=30)
    trusted_proxies: str = ""


class S3Section(Section, frozen=True):
    """How an S3 server is reached; what is empty comes from botocore's own environment."""

    endpoint: str = ""
    public_endpoint: str = ""
    region: str = ""
    access_key: str = ""
    secret_key: Secret = Secret()
    addressing: Literal["auto", "path", "virtual"] = "auto"
    ca_file: str = ""
    redirect: Literal["auto", "always", "never"] = "auto"
    encryption: Literal["none", "AES256", "aws:kms"] = "none"
    kms_key: str = ""


class StorageSection(Section, frozen=True):
    """Where the blobs lie."""

    url: str = ""
    threaded: bool = False
    checkpoint: Size = Size(256 * 1024**2)
    s3: S3Section = S3Section()


class MetadataSection(Section, frozen=True):
    """Where the metadata lie, and how a server that holds them is reached."""

    url: str = ""
    password: Secret = Secret()
    ca_file: str = ""
    connections: int = 10
    timeout: Duration = Duration(seconds=10)


class ManifestsSection(Section, frozen=True):
    """What manifests may be."""

    sparse: Sparse = Sparse.INDEXES
    limit: Size = Size(MANIFEST_MINIMUM)
    cache: Size = Size(64 * 1024**2)


class ApprSection(Section, frozen=True):
    """The appr door."""

    body: Size = Size(64 * 1024**2)
    unpacked: Size = Size(1024**3)
    decodes: int = 4


class CollectorSection(Section, frozen=True):
    """The collector."""

    enabled: bool = True
    interval: Duration = Duration(hours=1)
    grace: Duration = Duration(hours=24)
    sessions: Duration = Duration(days=7)
    journal: Duration = Duration(days=30)
    rate: int = 0


class BackupSection(Section, frozen=True):
    """Snapshots of the metadata, beside the blobs."""

    interval: Duration = Duration(days=1)
    keep: int = 7


class LimitsSection(Section, frozen=True):
    """How much at once."""

    uploads: int = 1_000
    inline: Size | None = None
    chunk: Size = Size(0)


class LogSection(Section, frozen=True):
    """What is told, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"
    access: bool = True


class Config(Section, frozen=True):
    """All settings; every one is described in docs/configuration.md."""

    data: str = "./data"
    server: ServerSection = ServerSection()
    storage: StorageSection = StorageSection()
    metadata: MetadataSection = MetadataSection()
    manifests: ManifestsSection = ManifestsSection()
    appr: ApprSection = ApprSection()
    collector: CollectorSection = CollectorSection()
    backup: BackupSection = BackupSection()
    limits: LimitsSection = LimitsSection()
    log: LogSection = LogSection()
    retention: tuple[RetentionRule, ...] = ()
    immutable: tuple[ImmutableRule, ...] = ()

    @property
    def storage_url(self) -> str:
        """Where the blobs lie, the default filled in."""
        return self.storage.url or f"file://{self._directory}/blobs"

    @property
    def metadata_url(self) -> str:
        """Where the metadata lie, the default filled in."""
        return self.metadata.url or f"sqlite://{self._directory}/metadata.db"

    @property
    def trusted_proxies(self) -> TrustedProxies:
        """Whose word about a client's address counts; raise `ConfigError`."""
        try:
            return TrustedProxies.parse(self.server.trusted_proxies)
        except ValueError as error:
            raise ConfigError(f"server.trusted_proxies: {error}") from None

    @property
    def inline(self) -> Size:
        """Up to which size blobs live in the metadata, the default filled in.

        Redis and etcd keep all they hold in memory: nothing by default.
        """
        if self.limits.inline is not None:
            return self.limits.inline
        in_memory = urlsplit(self.metadata_url).scheme in _IN_MEMORY
        return Size(0) if in_memory else Size(16 * 1024)

    @property
    def records_pulls(self) -> bool:
        """Whether any rule asks when something was pulled last."""
        return any(rule.keep_pulled_within is not None for rule in self.retention)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on, the host empty for every address; raise `ConfigError`."""
        host, colon, port = self.server.listen.rpartition(":")
        number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else -1  # noqa: PLR2004 - ports have five digits
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not 0 <= number <= _LAST_PORT or (":" in host and not bracketed):
            raise ConfigError(
                f"server.listen: {self.server.listen!r} does not read HOST:PORT"
                " ([::1]:5000 for IPv6)"
            )
        return host.strip("[]"), number

    @property
    def _directory(self) -> str:
        return quote(str(Path(self.data).absolute()))
