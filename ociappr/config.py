"""Settings: frozen structs with defaults, and the one loader that fills them.

Later wins: defaults, the YAML file, the environment (``OCIAPPR_STORAGE__URL``), the command line.
Sizes are written ``64MiB``, durations ``15m``. Nothing else in the project reads settings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches
from enum import EnumType
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, TypeVar, get_args, get_origin
from urllib.parse import quote, urlsplit

import msgspec

from ociappr.forwarded import TrustedProxies
from ociappr.registry.patterns import RepositoryPattern, TagPattern, VersionRange
from ociappr.registry.rules import ImmutableRule, RetentionRule
from ociappr.registry.settings import Sparse

_PREFIX = "OCIAPPR_"
_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_QUANTITY = re.compile(r"([0-9]{1,18})\s*([A-Za-z]*)")
_MANIFEST_MINIMUM = 4 * 1024**2
_INLINE_MAXIMUM = 256 * 1024
_IN_MEMORY = frozenset({"redis", "rediss", "etcd", "etcds"})
_LAST_PORT = 65535
_MOST_WORKERS = 128


class ConfigError(Exception):
    """A setting is unknown, malformed or impossible; the message names it and its source."""


def _quantity(text: object, example: str) -> tuple[int, str]:
    found = _QUANTITY.fullmatch(str(text).strip())
    if found is None or not isinstance(text, int | str) or isinstance(text, bool):
        raise ValueError(f"{text!r} is no number with a unit, like {example}")
    return int(found[1]), found[2]


def _spelled(number: int, units: Mapping[str, int]) -> str:
    """Return *number* with the largest unit that divides it; zero with the smallest unit."""
    smallest, *_ = units
    fitting = [unit for unit, factor in units.items() if number and number % factor == 0]
    unit = fitting[-1] if fitting else smallest
    return f"{number // units[unit]}{unit}"


class Size(int):
    """A number of bytes, written ``64MiB``."""

    @classmethod
    def parse(cls, text: object) -> Size:
        """Return the size that *text* spells, a bare number being bytes; raise `ValueError`."""
        number, unit = _quantity(text, "64MiB")
        factor = _UNITS.get(unit or "B")
        if factor is None:
            raise ValueError(f"a size ends in one of {', '.join(_UNITS)}; this ends in {unit!r}")
        return cls(number * factor)

    def __str__(self) -> str:
        """Return the shortest spelling."""
        return _spelled(int(self), _UNITS)


class Duration(timedelta):
    """A length of time, written ``15m``."""

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Return the duration that *text* spells; raise `ValueError`."""
        number, unit = _quantity(text, "15m")
        factor = _MILLISECONDS.get(unit)
        if factor is None:
            known = ", ".join(_MILLISECONDS)
            raise ValueError(f"a duration ends in one of {known}; this ends in {unit!r}")
        try:
            return cls(milliseconds=number * factor)
        except OverflowError:
            raise ValueError("so long a time cannot be") from None

    def __str__(self) -> str:
        """Return the shortest spelling."""
        return _spelled(self // timedelta(milliseconds=1), _MILLISECONDS)


class Secret:
    """A text that nothing shows: a password. Every setting of this type also has a ``_file``."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    @classmethod
    def parse(cls, text: object) -> Secret:
        """Return the secret *text*; raise `ValueError` for what is no text."""
        if not isinstance(text, str):
            raise ValueError("what was given is not a text")  # noqa: TRY004 - as the others do
        return cls(text)

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __str__(self) -> str:
        """Return only whether there is one."""
        return "***" if self._text else ""


class Section(msgspec.Struct, frozen=True):
    """A group of settings."""


S = TypeVar("S", bound=Section)
T = TypeVar("T")


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
            effective = _EFFECTIVE.get(key)
            shown = effective(self.config) if effective is not None else value
            yield Setting(key, shown, self.origins.get(key, "default"))


# settings whose default depends on others
_EFFECTIVE: Mapping[str, Callable[[Config], object]] = {
    "storage.url": lambda config: shown(config.storage_url),
    "metadata.url": lambda config: shown(config.metadata_url),
    "limits.inline": lambda config: config.inline,
}


def shown(url: str) -> str:
    """Return *url* without the password that may stand in it."""
    place = url.partition("://")[2].partition("/")[0]
    user, at, host = place.rpartition("@")
    name, colon, _ = user.partition(":")
    return url.replace(place, f"{name}:***@{host}", 1) if at and colon else url


def fields(section: type[msgspec.Struct] = Config, prefix: str = "") -> dict[str, object]:
    """Return every key, as ``section.name``, with its type."""
    found: dict[str, object] = {}
    for one in msgspec.structs.fields(section):
        kind = one.type
        if isinstance(kind, type) and issubclass(kind, Section):
            found |= fields(kind, f"{prefix}{one.name}.")
        else:
            choices = [choice for choice in get_args(kind) if choice is not NoneType]
            found[prefix + one.name] = choices[0] if isinstance(kind, UnionType) else kind
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
            if known.get(secret := key.removesuffix("_file")) is Secret and secret != key:
                values[secret] = _read_secret(key, raw, origin)
                origins[secret] = origin
                continue
            if key not in known:
                written = _variable if origin == "environment" else str
                raise ConfigError(f"{_unknown(key, known, written)} (from {origin})")
            values[key] = _convert(key, raw, known[key], origin, strict=strict)
            origins[key] = origin
    config = _build(Config, values, "")
    _check(config)
    return Loaded(config, origins)


_HTTP = "reads https://host:port, or http://"
_HTTP_URL = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?/?")


def _is_no_url(text: str) -> bool:
    return bool(text) and not _HTTP_URL.fullmatch(text)


# what well-formed values must also be: when it is wrong, the key, and what it must be
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
        lambda c: c.manifests.limit < _MANIFEST_MINIMUM,
        "manifests.limit",
        f"is {Size(_MANIFEST_MINIMUM)} at least, as distribution-spec wants",
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


def _check(config: Config) -> None:
    """Raise `ConfigError` for values that are well-formed, but cannot be."""
    _ = config.address, config.trusted_proxies
    values = {setting.key: setting.value for setting in Loaded(config).settings()}
    for is_wrong, key, rule in _RULES:
        if is_wrong(config):
            raise ConfigError(f"{key}: {str(values[key])!r} cannot be; it {rule}")


def _build(section: type[S], values: Mapping[str, object], prefix: str) -> S:
    arguments: dict[str, object] = {}
    for one in msgspec.structs.fields(section):
        key = prefix + one.name
        if isinstance(one.type, type) and issubclass(one.type, Section):
            arguments[one.name] = _build(one.type, values, f"{key}.")
        elif key in values:
            arguments[one.name] = values[key]
    return section(**arguments)


def _read_secret(key: str, raw: object, origin: str) -> Secret:
    """Return what the file of a secret holds, a line break at its end left out."""
    try:
        return Secret(Path(str(raw)).read_text(encoding="utf-8").rstrip("\r\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: cannot read {raw!r}: {error} (from {origin})") from None


def _convert(key: str, raw: object, kind: object, origin: str, *, strict: bool) -> object:
    if get_origin(kind) is tuple:
        return _read_list(key, raw, get_args(kind)[0], origin)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _read_rule(key, raw, kind, origin)
    try:
        if (parse := _PARSERS.get(kind)) is not None:
            return parse(raw)
        return msgspec.convert(raw, type=kind, strict=strict)
    except msgspec.ValidationError:
        choices = kind if isinstance(kind, EnumType) else get_args(kind)
        allowed = ", ".join(getattr(one, "value", one) for one in choices) or _KINDS.get(kind, "")
        raise ConfigError(f"{key}: {raw!r} is not {allowed} (from {origin})") from None
    except ValueError as error:
        raise ConfigError(f"{key}: {error} (from {origin})") from None


def _pattern(kind: Callable[[str], T]) -> Callable[[object], T]:
    def parse(raw: object) -> T:
        if not isinstance(raw, str):
            raise ValueError(f"{raw!r} is not a text")  # noqa: TRY004 - as the others do
        return kind(raw)

    return parse


_PARSERS: Mapping[object, Callable[[object], object]] = {
    Size: Size.parse,
    Duration: Duration.parse,
    timedelta: Duration.parse,
    Secret: Secret.parse,
    **{kind: _pattern(kind) for kind in (RepositoryPattern, TagPattern, VersionRange)},
}
_KINDS: Mapping[object, str] = {
    int: "a whole number",
    bool: "true or false",
    str: "a text",
}


# -- lists of rules ------------------------------------------------------------------------------


def _read_list(key: str, raw: object, kind: object, origin: str) -> tuple[object, ...]:
    """Return a list, each of its items converted; a text is JSON, as the environment has it."""
    items = raw
    if isinstance(raw, str):
        try:
            items = json.loads(raw)
        except ValueError:
            raise ConfigError(f"{key}: {raw!r} is no list (from {origin})") from None
    if not isinstance(items, list):
        raise ConfigError(f"{key}: {items!r} is no list (from {origin})")
    return tuple(
        _convert(f"{key}[{number}]", item, kind, origin, strict=True)
        for number, item in enumerate(items)
    )


def _read_rule(key: str, raw: object, kind: type[msgspec.Struct], origin: str) -> msgspec.Struct:
    if not isinstance(raw, dict):
        raise ConfigError(f"{key}: {raw!r} is no mapping (from {origin})")
    known = fields(kind)
    arguments: dict[str, object] = {}
    for name, value in raw.items():
        place = f"{key}.{name}"
        if name not in known:
            every = {f"{key}.{one}": one for one in known}
            raise ConfigError(f"{_unknown(place, every, str)} (from {origin})")
        arguments[name] = _convert(place, value, known[name], origin, strict=True)
    try:
        return kind(**arguments)
    except ValueError as error:
        raise ConfigError(f"{key}: {error} (from {origin})") from None


def written(rule: msgspec.Struct) -> dict[str, object]:
    """Return what *rule* says, as it is written in a file; what it leaves open is left out."""
    said: dict[str, object] = {}
    for one in msgspec.structs.fields(rule):
        value = getattr(rule, one.name)
        if value == one.default:
            continue
        if isinstance(value, tuple):
            said[one.name] = [str(item) for item in value]
        else:
            said[one.name] = value if isinstance(value, int) else _text(value)
    return said


def _text(value: object) -> str:
    return str(getattr(value, "value", value))


def _unknown(key: str, known: Mapping[str, object], written: Callable[[str], str]) -> str:
    """Return that there is no such setting, and what might be meant, as it is *written* there."""
    if any(name.startswith(f"{key}.") for name in known):
        return f"{written(key)}: is a section, whose settings stand below it"
    near = get_close_matches(key, known, n=1)
    meant = f"did you mean {written(near[0])}?" if near else "`ociappr config` shows all there are"
    return f"{written(key)}: there is no such setting; {meant}"


# -- the file ------------------------------------------------------------------------------------


def _from_file(path: Path) -> dict[str, object]:
    import yaml  # noqa: PLC0415 - start-up time of those who have no file

    try:
        text = path.read_text(encoding="utf-8")
        _refuse_duplicates(yaml.compose(text, Loader=yaml.SafeLoader), path)
        document = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: the top level is no mapping of sections")
    return dict(_flat(document, path))


def _refuse_duplicates(node: object, path: Path, prefix: str = "") -> None:
    """Raise `ConfigError` for a key that stands twice, of which YAML readers keep the last."""
    import yaml  # noqa: PLC0415 - as above

    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _refuse_duplicates(item, path, f"{prefix.removesuffix('.')}[{number}].")
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if name in seen:
            raise ConfigError(f"{name}: stands twice (from {path})")
        seen.add(name)
        _refuse_duplicates(value, path, f"{name}.")


def _flat(
    document: Mapping[object, object], path: Path, prefix: str = ""
) -> Iterator[tuple[str, object]]:
    sections = {key[:at] for key in fields() for at, letter in enumerate(key) if letter == "."}
    for name, value in document.items():
        if not isinstance(name, str) or "." in name:
            raise ConfigError(f"{prefix}{name}: there is no such setting (from {path})")
        if isinstance(value, dict):
            yield from _flat(value, path, f"{prefix}{name}.")
        elif value is not None or f"{prefix}{name}" not in sections:  # a section may be empty
            yield f"{prefix}{name}", value


# -- the environment -----------------------------------------------------------------------------


def _variable(key: str) -> str:
    return _PREFIX + key.upper().replace(".", "__")


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    """Return what is set by variables of our prefix; a double underscore parts the names."""
    return {
        name.removeprefix(_PREFIX).lower().replace("__", "."): value
        for name, value in environ.items()
        if name.startswith(_PREFIX)
    }
