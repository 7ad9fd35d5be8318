"""The requests of the App Registry API as values: parsed once, and written from the same values.

``parse(*construct(operation)) == operation`` for every operation. A path is split before it is
decoded, so an escaped slash never moves a border. Query strings and bodies, which the original
server merges, are in `ociappr.appr_api.parameters`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeAlias
from urllib.parse import parse_qs, quote, unquote

from ociappr.errors import MethodRefused, RequestInvalid, RouteUnknown
from ociappr.names import PackageName

PREFIXES = ("cnr", "appr")
"""What may stand before every path: old clients use the first."""


@dataclass(frozen=True, slots=True)
class Home:
    """The discovery page."""


@dataclass(frozen=True, slots=True)
class WellKnown:
    """The discovery document of the specification's draft."""


@dataclass(frozen=True, slots=True)
class ShowVersion:
    """The version of the API."""


@dataclass(frozen=True, slots=True)
class Login:
    """An exchange of a name and a password for a token."""


@dataclass(frozen=True, slots=True)
class ListPackages:
    """The packages, filtered by parameters."""


@dataclass(frozen=True, slots=True)
class SearchPackages:
    """The names of packages, filtered by a parameter."""


@dataclass(frozen=True, slots=True)
class ShowReleases:
    """The releases of a package, filtered by a parameter."""

    package: PackageName


@dataclass(frozen=True, slots=True)
class Push:
    """A package in the body."""

    package: PackageName


@dataclass(frozen=True, slots=True)
class ShowRelease:
    """The formats of the release that *release* spells."""

    package: PackageName
    release: str


@dataclass(frozen=True, slots=True)
class ShowPackage:
    """One format of the release that *query* means."""

    package: PackageName
    query: str
    format: str


@dataclass(frozen=True, slots=True)
class DeletePackage:
    """One format of the release that *release* spells, to be deleted."""

    package: PackageName
    release: str
    format: str


@dataclass(frozen=True, slots=True)
class Pull:
    """The archive of one format of the release that *query* means."""

    package: PackageName
    query: str
    format: str
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class GetBlob:
    """The archive that *digest* names, if that is a bare sha256."""

    package: PackageName
    digest: str
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class ListChannels:
    """The channels of a package."""

    package: PackageName


@dataclass(frozen=True, slots=True)
class ShowChannel:
    """One channel."""

    package: PackageName
    channel: str


@dataclass(frozen=True, slots=True)
class DeleteChannel:
    """One channel, to be deleted."""

    package: PackageName
    channel: str


@dataclass(frozen=True, slots=True)
class SetChannel:
    """A channel that is to lead to a release, and is made if it has to be."""

    package: PackageName
    channel: str
    release: str


@dataclass(frozen=True, slots=True)
class LeaveChannel:
    """A release that is to leave a channel."""

    package: PackageName
    channel: str
    release: str


Operation: TypeAlias = (
    Home
    | WellKnown
    | ShowVersion
    | Login
    | ListPackages
    | SearchPackages
    | ShowReleases
    | Push
    | ShowRelease
    | ShowPackage
    | DeletePackage
    | Pull
    | GetBlob
    | ListChannels
    | ShowChannel
    | DeleteChannel
    | SetChannel
    | LeaveChannel
)


@dataclass(frozen=True, slots=True)
class _Route:
    """One line of the table; a segment in braces is a field of the operation."""

    method: str
    path: str
    operation: type[Operation]
    as_json: bool = False

    def match(self, segments: list[str]) -> dict[str, str] | None:
        """Return the variables of a path that has this form, else None."""
        pattern = self.path.split("/")
        if len(pattern) != len(segments):
            return None
        found = {}
        for name, segment in zip(pattern, segments, strict=True):
            if name.startswith("{"):
                found[name[1:-1]] = segment
            elif name != segment:
                return None
        return found


_PACKAGES = "api/v1/packages"
_PACKAGE = f"{_PACKAGES}/{{namespace}}/{{name}}"
_CHANNEL = f"{_PACKAGE}/channels/{{channel}}"
_BLOB = f"{_PACKAGE}/blobs/sha256/{{digest}}"
_SHOWN = f"{_PACKAGE}/{{query}}/{{format}}"

# the first line that has the path's form and the method counts: fixed segments stand before fields
_ROUTES = (
    _Route("GET", "", Home),
    _Route("GET", ".well-known/app-registry-uri.json", WellKnown),
    _Route("GET", "version", ShowVersion),
    _Route("POST", "api/v1/users/login", Login),
    _Route("GET", _PACKAGES, ListPackages),
    _Route("GET", f"{_PACKAGES}/search", SearchPackages),
    _Route("GET", _PACKAGE, ShowReleases),
    _Route("POST", _PACKAGE, Push),
    _Route("GET", f"{_PACKAGE}/channels", ListChannels),
    _Route("GET", f"{_PACKAGE}/{{release}}", ShowRelease),
    _Route("GET", _CHANNEL, ShowChannel),
    _Route("DELETE", _CHANNEL, DeleteChannel),
    _Route("GET", _SHOWN, ShowPackage),
    _Route("DELETE", f"{_PACKAGE}/{{release}}/{{format}}", DeletePackage),
    _Route("GET", _BLOB, GetBlob),
    _Route("POST", f"{_CHANNEL}/{{release}}", SetChannel),
    _Route("DELETE", f"{_CHANNEL}/{{release}}", LeaveChannel),
    _Route("GET", f"{_SHOWN}/pull", Pull),
    _Route("GET", f"{_BLOB}/json", GetBlob, as_json=True),
    _Route("GET", f"{_SHOWN}/pull/json", Pull, as_json=True),
)


def parse(method: str, raw_path: str, raw_query: str = "") -> Operation:
    """Return what a request line asks for.

    Raises `RouteUnknown`, `MethodRefused`, `NameInvalid`, and `RequestInvalid` when the path is no
    UTF-8. A trailing slash is ignored below ``api/v1``; HEAD is GET.
    """
    segments = _segments(raw_path)
    allowed = []
    for route in _ROUTES:
        found = route.match(segments)
        if found is None:
            continue
        if route.method == ("GET" if method == "HEAD" else method):
            return _operation(route, found, raw_query)
        allowed += ["GET", "HEAD"] if route.method == "GET" else [route.method]
    if allowed:
        message = f"{method} is not possible here"
        raise MethodRefused(message, allowed=tuple(dict.fromkeys([*allowed, "OPTIONS"])))
    raise RouteUnknown(
        "there is nothing at this path", hint="open / in a browser for what there is"
    )


def construct(operation: Operation) -> tuple[str, str]:
    """Return the method and the path, without prefix, that ask for *operation*."""
    as_json = getattr(operation, "as_json", False)
    route = next(
        one for one in _ROUTES if one.operation is type(operation) and one.as_json == as_json
    )
    values = {field.name: getattr(operation, field.name) for field in fields(operation)}
    package = values.pop("package", None)
    if package is not None:
        values |= {"namespace": package.namespace, "name": package.name}
    quoted = {name: quote(str(value), safe="") for name, value in values.items()}
    return route.method, "/" + route.path.format_map(quoted)


def _segments(raw_path: str) -> list[str]:
    """Return the decoded segments behind the prefix."""
    if not raw_path.startswith("/"):
        raise RouteUnknown("a path begins with a slash")
    try:
        segments = [unquote(raw, errors="strict") for raw in raw_path.split("/")[1:]]
    except UnicodeDecodeError:
        raise RequestInvalid("the path is no UTF-8") from None
    if any("/" in segment for segment in segments):
        raise RouteUnknown("no part of a path holds a slash")
    if segments and segments[0] in PREFIXES:
        segments = segments[1:]
    if segments[:2] == ["api", "v1"] and segments[-1] == "":
        segments = segments[:-1]
    return segments or [""]


def _operation(route: _Route, found: dict[str, str], raw_query: str) -> Operation:
    if "" in found.values():
        raise RouteUnknown("no part of a path is empty")
    values: dict[str, object] = dict(found)
    if "namespace" in found:
        values = {name: text for name, text in found.items() if name not in ("namespace", "name")}
        values["package"] = PackageName(found["namespace"], found["name"])
    if "as_json" in route.operation.__dataclass_fields__:
        wanted = parse_qs(raw_query).get("format", [""])[0]
        values["as_json"] = route.as_json or wanted == "json"
    return route.operation(**values)  # type: ignore[arg-type]
