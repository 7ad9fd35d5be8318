"""Settings: frozen structs with defaults, and the one loader that fills them.

Later wins: defaults, the YAML file, the environment (``OCIAPPR_STORAGE__URL``), the command line.
Sizes are written ``64MiB``, durations ``15m``. Nothing else in the project reads settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
import yaml

from ociappr.registry.settings import Sparse

_PREFIX = "OCIAPPR_"
_UNITS = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_QUANTITY = re.compile(r"([0-9]+)\s*([A-Za-z]*)")
_MANIFEST_MINIMUM = 4 * 1024**2


class ConfigError(Exception):
    """A setting is unknown, malformed or impossible; the message names it and its source."""


class Size(int):
    """A number of bytes, written ``64MiB``."""

    @classmethod
    def parse(cls, text: object) -> Size:
        """Return the size that *text* spells; raise `ValueError`."""
        number, unit = _quantity(text)
        if unit not in _UNITS:
            raise ValueError(f"a size ends in one of {', '.join(filter(None, _UNITS))}")
        return cls(number * _UNITS[unit])

    def __str__(self) -> str:
        """Return the shortest spelling."""
        for unit, factor in reversed(_UNITS.items()):
            if unit and self and self % factor == 0:
                return f"{self // factor}{unit}"
        return f"{int(self)}B"


class Duration(timedelta):
    """A length of time, written ``15m``."""

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Return the duration that *text* spells; raise `ValueError`."""
        number, unit = _quantity(text)
        if unit not in _SECONDS:
            raise ValueError(f"a duration ends in one of {', '.join(_SECONDS)}")
        return cls(seconds=number * _SECONDS[unit])

    def __str__(self) -> str:
        """Return the shortest spelling."""
        seconds = self.total_seconds()
        for unit, factor in reversed(_SECONDS.items()):
            if seconds and seconds % factor == 0:
                return f"{int(seconds // factor)}{unit}"
        return f"{int(seconds * 1000)}ms"


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group of settings."""


S = TypeVar("S", bound=Section)


class ServerSection(Section, frozen=True):
    """How the server listens."""

    listen: str = "127.0.0.1:5000"
    workers: int = 1
    stall: Duration = Duration(seconds=60)
    drain: Duration = Duration(seconds=30)
    keepalive: Duration = Duration(seconds=75)


class StorageSection(Section, frozen=True):
    """Where the blobs lie."""

    url: str = ""
    threaded: bool = False


class MetadataSection(Section, frozen=True):
    """Where the metadata lie."""

    url: str = ""


class ManifestsSection(Section, frozen=True):
    """What manifests may be."""

    sparse: Literal["none", "indexes", "all"] = "indexes"
    limit: Size = Size(_MANIFEST_MINIMUM)
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


class LimitsSection(Section, frozen=True):
    """How much at once."""

    uploads: int = 1_000
    inline: Size = Size(16 * 1024)
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
    limits: LimitsSection = LimitsSection()
    log: LogSection = LogSection()

    @property
    def storage_url(self) -> str:
        """Where the blobs lie, the default filled in."""
        return self.storage.url or f"file:///{_absolute(self.data)}/blobs"

    @property
    def metadata_url(self) -> str:
        """Where the metadata lie, the default filled in."""
        return self.metadata.url or f"sqlite:///{_absolute(self.data)}/metadata.db"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on; raise `ConfigError`."""
        host, colon, port = self.server.listen.rpartition(":")
        if not colon or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - the last port
            raise ConfigError(f"server.listen: {self.server.listen!r} does not read HOST:PORT")
        return host.strip("[]"), int(port)


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective value, and who set it."""

    key: str
    value: object
    origin: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The configuration, and where each value that is no default came from."""

    config: Config
    origins: Mapping[str, str] = field(default_factory=dict)

    def settings(self) -> Iterator[Setting]:
        """Yield every setting with its effective value and its origin, in their order."""
        for key in fields():
            value: object = self.config
            for name in key.split("."):
                value = getattr(value, name)
            yield Setting(key, value, self.origins.get(key, "default"))


def fields(section: type[msgspec.Struct] = Config, prefix: str = "") -> dict[str, object]:
    """Return every key, as ``section.name``, with its type."""
    found: dict[str, object] = {}
    for one in msgspec.structs.fields(section):
        kind = one.type
        if isinstance(kind, type) and issubclass(kind, Section):
            found |= fields(kind, f"{prefix}{one.name}.")
        else:
            found[prefix + one.name] = kind
    return found


def load(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Loaded:
    """Return the settings of all sources; raise `ConfigError` for anything that cannot be."""
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    sources: list[tuple[str, Mapping[str, object], bool]] = [
        (str(file), _from_file(file) if file is not None else {}, True),
        ("environment", _from_environment(environ or {}), False),
        ("command line", flags or {}, False),
    ]
    known = fields()
    for origin, given, strict in sources:
        for key, raw in given.items():
            if key not in known:
                raise ConfigError(f"{key}: there is no such setting (from {origin})")
            values[key] = _convert(key, raw, known[key], origin, strict=strict)
            origins[key] = origin
    config = _build(Config, values, "")
    _check(config)
    return Loaded(config, origins)


def _check(config: Config) -> None:
    """Raise `ConfigError` for values that are well-formed, but cannot be."""
    _ = config.address
    if config.server.workers < 1:
        raise ConfigError("server.workers: at least 1")
    if config.manifests.limit < _MANIFEST_MINIMUM:
        raise ConfigError("manifests.limit: registries accept 4MiB at least (distribution-spec)")
    if config.appr.decodes < 1:
        raise ConfigError("appr.decodes: at least 1")
    if config.limits.uploads < 1:
        raise ConfigError("limits.uploads: at least 1")


def _build(section: type[S], values: Mapping[str, object], prefix: str) -> S:
    arguments: dict[str, object] = {}
    for one in msgspec.structs.fields(section):
        key = prefix + one.name
        if isinstance(one.type, type) and issubclass(one.type, Section):
            arguments[one.name] = _build(one.type, values, f"{key}.")
        elif key in values:
            arguments[one.name] = values[key]
    return section(**arguments)


def _convert(key: str, raw: object, kind: object, origin: str, *, strict: bool) -> object:
    try:
        if kind in (Size, Duration):
            return kind.parse(raw)
        return msgspec.convert(raw, type=kind, strict=strict)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{key}: {error} (from {origin})") from None


def _from_file(path: Path) -> dict[str, object]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: the top level is not a mapping")
    return dict(_flat(document))


def _flat(document: Mapping[object, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    """Return what is set by variables of our prefix; a double underscore parts the names."""
    return {
        name.removeprefix(_PREFIX).lower().replace("__", "."): value
        for name, value in environ.items()
        if name.startswith(_PREFIX)
    }


def sparse(config: Config) -> Sparse:
    """Return the policy about absent children."""
    return Sparse(config.manifests.sparse)


def _quantity(text: object) -> tuple[int, str]:
    found = _QUANTITY.fullmatch(str(text).strip())
    if found is None or isinstance(text, bool):
        raise ValueError(f"{text!r} is no number with a unit")
    return int(found[1]), found[2]


def _absolute(data: str) -> str:
    return str(Path(data).absolute()).lstrip("/")
