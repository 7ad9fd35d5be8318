"""Two replicas of one registry behind a proxy that gives each request to the next of them."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.conftest import Server, Servers, Tool
from conformance.nginx import documented, nginx
from conformance.pushing import Acknowledged, archive, check, pushing
from conformance.wire import (
    digest_of,
    expect,
    fetch,
    get_blob,
    get_manifest,
    push_image,
    tags,
)

DEPLOYMENTS = Path(__file__).parents[2] / "docs" / "deployments.md"
CHUNKS = 8
LIVES = 3
API = "/api/v1/packages"


@pytest.fixture
def pair(start_server: Servers) -> tuple[Server, Server]:
    """Two replicas of a registry that this test has for itself."""
    first = start_server()
    return first, start_server(data=first.data)


@pytest.fixture
def outside(pair: tuple[Server, Server], tool: Tool, tmp_path: Path) -> Iterator[Server]:
    """The proxy in front of them."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    with nginx(tool("nginx"), folder, documented(DEPLOYMENTS), *pair) as proxy:
        yield proxy


def test_an_upload_goes_on_at_the_other_replica(pair: tuple[Server, Server], repo: str) -> None:
    data = os.urandom(CHUNKS * 700_000)
    step = len(data) // CHUNKS
    location = expect(fetch(pair[0], "POST", f"/v2/{repo}/blobs/uploads/"), 202).headers["Location"]
    for number in range(CHUNKS):
        chunk = data[number * step : (number + 1) * step]
        span = {"Content-Range": f"{number * step}-{(number + 1) * step - 1}"}
        reply = fetch(pair[(number + 1) % 2], "PATCH", location, body=chunk, headers=span)
        location = expect(reply, 202).headers["Location"]
        asked = expect(fetch(pair[number % 2], "GET", location), 204)
        assert asked.headers["Range"] == f"0-{(number + 1) * step - 1}"
    mark = "&" if "?" in location else "?"
    expect(fetch(pair[0], "PUT", f"{location}{mark}digest={digest_of(data)}"), 201)
    for replica in pair:
        assert get_blob(replica, repo, digest_of(data)) == data


def test_a_tag_that_moved_at_one_replica_has_moved_at_the_other(
    pair: tuple[Server, Server], repo: str
) -> None:
    for number in range(20):
        pushed = push_image(pair[number % 2], repo, "moving", [os.urandom(100)])
        assert get_manifest(pair[(number + 1) % 2], repo, "moving")[2] == pushed


def test_a_channel_that_moved_at_one_replica_has_moved_at_the_other(
    pair: tuple[Server, Server],
) -> None:
    package = "replicas/channels"
    digests = {}
    for number, release in enumerate(("1.0.0", "2.0.0")):
        blob = base64.b64encode(archive(release.encode())).decode()
        body = json.dumps({"release": release, "media_type": "kpm", "blob": blob})
        expect(fetch(pair[number], "POST", f"{API}/{package}", body=body.encode()), 200)
        digests[release] = get_manifest(pair[1 - number], package, release)[2]
    for number, release in enumerate(("1.0.0", "2.0.0", "1.0.0")):
        replica, other = pair[number % 2], pair[(number + 1) % 2]
        expect(fetch(replica, "POST", f"{API}/{package}/channels/stable/{release}"), 200)
        assert get_manifest(other, package, "stable")[2] == digests[release]


def test_both_replicas_take_part(outside: Server, pair: tuple[Server, Server], repo: str) -> None:
    push_image(outside, repo, "1", [os.urandom(200_000)])
    assert tags(outside, repo) == ["1"]
    for replica in pair:
        counted = fetch(replica, "GET", "/metrics").body.decode()
        assert 'ociappr_requests_total{door="oci"' in counted


def test_killing_a_replica_loses_nothing_acknowledged(
    start_server: Servers, outside: Server, pair: tuple[Server, Server]
) -> None:
    """One replica is killed under parallel pushes through the proxy; the other one goes on."""
    told, victim = Acknowledged(), pair[0]
    for life in range(LIVES):
        with pushing(outside, told, seed=f"life-{life}"):
            told.wait_for(10)
            start_server.kill(victim)
            told.wait_for(10)
        victim = start_server(data=victim.data, host=victim.host)
    told.verify(outside)
    check(start_server, victim.data)
