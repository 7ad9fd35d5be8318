"""Ask two servers everything about a package, and find what they answer differently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from conformance.wire import Reply, Server, fetch

API = "/cnr/api/v1/packages"
Json = Any
"""Parsed JSON of either server."""


@dataclass(frozen=True, slots=True)
class Shown:
    """All that a server shows of one package; *listed* is None when the list leaves it out."""

    listed: Json
    releases: Mapping[tuple[str, str], Json]
    details: Mapping[tuple[str, str], Json]
    channels: Mapping[str, Json]
    archives: Mapping[str, bytes]


def packages(server: Server) -> dict[str, Json]:
    """Return the list of packages by their names."""
    found = _get(server, "").json()
    assert isinstance(found, list)
    return {entry["name"]: entry for entry in found}


def show(server: Server, package: str, listed: Mapping[str, Json]) -> Shown:
    """Return all that *server* shows of *package*."""
    answer: Json = _get(server, f"/{quote(package)}").json()
    releases = {_key(one): one for one in answer}
    details, archives = {}, {}
    for release, format_ in releases:
        path = f"/{quote(package)}/{quote(release)}/{quote(format_)}"
        details[release, format_] = _unordered(_get(server, path).json(), "channels")
        archives[f"{release} {format_}"] = _get(server, f"{path}/pull").body
    for digest in {one["content"]["digest"] for one in answer}:
        archives[digest] = _get(server, f"/{quote(package)}/blobs/sha256/{digest}").body
    channels: Json = _get(server, f"/{quote(package)}/channels").json()
    entry = listed.get(package)
    return Shown(
        listed=entry if entry is None else _unordered(entry, "manifests"),
        releases=releases,
        details=details,
        channels={one["name"]: _unordered(one, "releases") for one in channels},
        archives=archives,
    )


def exists(server: Server, package: str) -> bool:
    """Tell whether *server* knows a package, with releases or without."""
    path = f"{API}/{quote(package)}"
    return fetch(server, "GET", path).status == HTTPStatus.OK


def differences(old: Shown, new: Shown) -> Iterator[str]:
    """Yield what differs; sizes told by the old server are those of the first of equal tars."""
    if old.listed != new.listed:
        yield f"list: {old.listed} != {new.listed}"
    for name in ("releases", "details", "channels", "archives"):
        left, right = getattr(old, name), getattr(new, name)
        for key in left.keys() | right.keys():
            one, other = left.get(key), right.get(key)
            if isinstance(one, dict) and "content" in one:
                size = len(old.archives[" ".join(key)])
                one = {**one, "content": {**one["content"], "size": size}}
            if one != other:
                yield f"{name} {key}: {one!r:.500} != {other!r:.500}"


def _key(manifest: Json) -> tuple[str, str]:
    return manifest["release"], manifest["mediaType"].split(".")[3]


def _unordered(document: Json, name: str) -> Json:
    """Return *document* with one list sorted that has no order."""
    return {**document, name: sorted(document[name])}


def _get(server: Server, path: str) -> Reply:
    reply = fetch(server, "GET", API + path)
    assert reply.status == HTTPStatus.OK, f"{path}: {reply.status} {reply.body[:300]!r}"
    return reply
