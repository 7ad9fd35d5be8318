"""A registry that keeps its metadata in etcd: what its clients see when etcd is not well."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from conformance.backends.etcd import NEEDED, etcd
from conformance.servers import Servers, wait_ready
from conformance.stores.conftest import require
from conformance.wire import (
    OCI_INDEX,
    OCI_MANIFEST,
    descriptor,
    expect,
    fetch,
    get_manifest,
    push_image,
)


@pytest.fixture(scope="module", autouse=True)
def _needed() -> None:
    require("etcd")


def index(children: int) -> bytes:
    """Return an index of so many images that need not exist."""
    manifests = [descriptor(OCI_MANIFEST, b"%d" % number) for number in range(children)]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode()


@pytest.mark.parametrize(
    ("flags", "status"), [(NEEDED, 201), ((), 413)], ids=["given", "not given"]
)
def test_a_manifest_of_many_children_needs_a_flag(
    tmp_path: Path, start_server: Servers, flags: Sequence[str], status: int
) -> None:
    with etcd(tmp_path, needed=flags) as member:
        server = start_server("--metadata", f"etcd://{member.host}/p")
        path, headers = "/v2/a/b/manifests/latest", {"Content-Type": OCI_INDEX}
        expect(fetch(server, "PUT", path, headers=headers, body=index(100)), 201)
        reply = fetch(server, "PUT", path, headers=headers, body=index(900))
        assert reply.status == status
        assert (b"--max-txn-ops 1024" in reply.body) == (status == 413)
        assert ("--max-txn-ops 1024" in start_server.logs()) == (status == 413)


def test_it_goes_on_when_etcd_is_back(tmp_path: Path, start_server: Servers) -> None:
    with etcd(tmp_path) as member:
        server = start_server("--metadata", f"etcd://{member.host}/p")
        first = push_image(server, "a/b", "1.0.0", [b"one"])
        with member.daemon.down():
            reply = fetch(server, "GET", "/v2/a/b/manifests/1.0.0")
            assert reply.status == 503
            assert reply.headers["Retry-After"]
            assert member.host.encode() not in reply.body
            assert fetch(server, "GET", "/readyz").status == 503
            assert fetch(server, "GET", "/livez").status == 200
        wait_ready(server, "/readyz")
        assert get_manifest(server, "a/b", "1.0.0")[2] == first
        second = push_image(server, "a/b", "2.0.0", [b"two"])
        assert get_manifest(server, "a/b", "2.0.0")[2] == second
