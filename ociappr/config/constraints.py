"""What well-formed values must also be, alone and together."""

from __future__ import annotations

import re
from collections.abc import Callable

from ociappr.config.errors import ConfigError
from ociappr.config.quantities import Size
from ociappr.config.sections import MANIFEST_MINIMUM, Config
from ociappr.config.settings import Loaded

_INLINE_MAXIMUM = 256 * 1024
_MOST_WORKERS = 128
_HTTP = "reads https://host:port, or http://"
_HTTP_URL = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?/?")


def _is_no_url(text: str) -> bool:
    return bool(text) and not _HTTP_URL.fullmatch(text)


# when it is wrong, the key, and what it must be
_RULES: tuple[tuple[Callable[[Config], bool], str, str], ...] = (
    (lambda c: not c.data, "data", "names a directory"),
    (
        lambda c: not 1 <= c.server.workers <= _MOST_WORKERS,
        "server.workers",
        f"is 1 to {_MOST_WORKERS}",
    ),
    (lambda c: not c.server.stall, "server.stall", "is more than nothing"),
    (lambda c: not c.server.keepalive, "server.keepalive", "is more than nothing"),
    (
        lambda c: c.manifests.limit < MANIFEST_MINIMUM,
        "manifests.limit",
        f"is {Size(MANIFEST_MINIMUM)} at least, as distribution-spec wants",
    ),
    (lambda c: not c.storage.checkpoint, "storage.checkpoint", "is more than nothing"),
    (lambda c: not c.appr.body, "appr.body", "is more than nothing"),
    (lambda c: not c.appr.unpacked, "appr.unpacked", "is more than nothing"),
    (lambda c: c.appr.decodes < 1, "appr.decodes", "is 1 at least"),
    (lambda c: not c.collector.interval, "collector.interval", "is more than nothing"),
    (lambda c: not c.collector.sessions, "collector.sessions", "is more than nothing"),
    (lambda c: c.collector.rate < 0, "collector.rate", "is 0, for as fast as can be, or more"),
    (lambda c: c.backup.keep < 1, "backup.keep", "is 1 at least"),
    (lambda c: c.limits.uploads < 1, "limits.uploads", "is 1 at least"),
    (lambda c: c.metadata.connections < 1, "metadata.connections", "is 1 at least"),
    (lambda c: not c.metadata.timeout, "metadata.timeout", "is more than nothing"),
    (lambda c: _is_no_url(c.storage.s3.endpoint), "storage.s3.endpoint", _HTTP),
    (lambda c: _is_no_url(c.storage.s3.public_endpoint), "storage.s3.public_endpoint", _HTTP),
    (
        lambda c: bool(c.storage.s3.access_key) != bool(c.storage.s3.secret_key.reveal()),
        "storage.s3.access_key",
        "goes together with storage.s3.secret_key: both or neither",
    ),
    (
        lambda c: bool(c.storage.s3.kms_key) and c.storage.s3.encryption != "aws:kms",
        "storage.s3.kms_key",
        "needs storage.s3.encryption: aws:kms",
    ),
    (
        lambda c: c.inline > _INLINE_MAXIMUM,
        "limits.inline",
        f"is {Size(_INLINE_MAXIMUM)} at most: larger bytes are no metadata",
    ),
)


def check(config: Config) -> None:
    """Raise `ConfigError` for values that are well-formed, but cannot be."""
    _ = config.address, config.trusted_proxies
    values = {setting.key: setting.value for setting in Loaded(config).settings()}
    for is_wrong, key, rule in _RULES:
        if is_wrong(config):
            raise ConfigError(f"{key}: {str(values[key])!r} cannot be; it {rule}")
