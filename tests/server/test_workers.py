from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conformance.servers import Servers
from conformance.wire import (
    OCI_CONFIG,
    OCI_MANIFEST,
    Server,
    descriptor,
    digest_of,
    expect,
    fetch,
    get_blob,
    get_manifest,
    push_blob,
    push_image,
)
from tests.server.conftest import begin_upload, children, ends, eventually, lines, refuses, runs

pytestmark = pytest.mark.slow


def worker(server: Server) -> str:
    """Return the number of the worker that answers."""
    found = re.search(rb'worker="([0-9]+)"', fetch(server, "GET", "/metrics").body)
    assert found
    return found[1].decode()


def test_all_workers_serve(servers: Servers) -> None:
    server = servers("--workers", "2")
    seen: set[str] = set()

    def ask() -> bool:
        with ThreadPoolExecutor(8) as pool:
            seen.update(pool.map(lambda _: worker(server), range(32)))
        return seen == {"0", "1"}

    eventually(ask, "both workers have answered")


def test_the_supervisor_forks_before_any_thread(servers: Servers) -> None:
    server = servers("--workers", "2")
    status = Path(f"/proc/{servers.pid(server)}/status").read_text()
    assert re.search(r"^Threads:\s+1$", status, re.MULTILINE)


def test_a_worker_that_dies_is_replaced(servers: Servers) -> None:
    server = servers("--workers", "2")
    supervisor = servers.pid(server)
    eventually(lambda: len(children(supervisor)) == 2, "two workers run")
    before = children(supervisor)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(children(supervisor) - {victim}) == 2, "another has begun")
    assert before - {victim} < children(supervisor)
    push_image(server, "a/b", "1.0.0")
    told = [str(line.get("message")) for line in lines(server.data.parent / "server-0.log")]
    assert any(re.match("worker [01] ended with status -9; another begins", one) for one in told)
    assert servers.stop(server) == 0


def test_no_worker_outlives_its_supervisor(servers: Servers) -> None:
    server = servers("--workers", "2")
    supervisor = servers.pid(server)
    eventually(lambda: len(children(supervisor)) == 2, "two workers run")
    upload = begin_upload(server, b"x" * 1000, 500)
    workers = children(supervisor)
    servers.kill(server)
    eventually(lambda: refuses(server), "nobody listens")
    upload.sendall(b"x" * 500)
    assert ends(upload).startswith(b"HTTP/1.1 201 Created\r\n")
    eventually(lambda: not any(map(runs, workers)), "the workers have ended")


def manifest(number: int) -> bytes:
    """Return a manifest that no other number has."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, b"{}"),
            "layers": [],
            "annotations": {"number": str(number)},
        }
    ).encode()


def test_pushes_of_one_tag_at_once(servers: Servers) -> None:
    server = servers("--workers", "2")
    push_blob(server, "a/b", b"{}")
    bodies = [manifest(number) for number in range(40)]

    def push(body: bytes) -> int:
        headers = {"Content-Type": OCI_MANIFEST}
        return fetch(server, "PUT", "/v2/a/b/manifests/latest", headers=headers, body=body).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(push, bodies)) == {201}
    assert get_manifest(server, "a/b", "latest")[0] in bodies
    for body in bodies:
        assert get_manifest(server, "a/b", digest_of(body))[0] == body


def package(number: int) -> bytes:
    """Return the body of a push whose archive no other number has."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo(f"app/{number}"))
    blob = base64.b64encode(buffer.getvalue()).decode()
    media_type = ["kpm", "docker-compose"][number % 2]
    return json.dumps({"release": "1.0.0", "media_type": media_type, "blob": blob}).encode()


def test_pushes_of_one_release_at_once(servers: Servers) -> None:
    """One archive of each media type wins, and both doors show the same two."""
    server = servers("--workers", "2")
    path = "/api/v1/packages/a/b"
    with ThreadPoolExecutor(8) as pool:
        statuses = list(
            pool.map(
                lambda number: fetch(server, "POST", path, body=package(number)).status, range(24)
            )
        )
    assert sorted(statuses) == [200, 200, *[409] * 22]
    index = json.loads(get_manifest(server, "a/b", "1.0.0")[0])
    assert len(index["manifests"]) == 2
    shown = expect(fetch(server, "GET", f"{path}/1.0.0"), 200).json()
    assert isinstance(shown, list)
    assert (
        sorted(one["mediaType"] for one in shown)
        == [
            "application/vnd.cnr.package.docker-compose.v1.tar+gzip",
            "application/vnd.cnr.package.kpm.v1.tar+gzip",
        ]
        or len(shown) == 2
    )
    for one in shown:
        content = one["content"]["digest"]
        expect(fetch(server, "GET", f"{path}/blobs/sha256/{content.removeprefix('sha256:')}"), 200)


def test_an_upload_goes_on_with_any_worker(servers: Servers) -> None:
    server = servers("--workers", "2")
    chunks = [os.urandom(50_000) for _ in range(12)]
    begun = expect(fetch(server, "POST", "/v2/a/b/blobs/uploads/"), 202)
    location, offset = str(begun.headers["Location"]), 0
    for chunk in chunks:
        headers = {"Content-Range": f"{offset}-{offset + len(chunk) - 1}"}
        reply = expect(fetch(server, "PATCH", location, headers=headers, body=chunk), 202)
        location, offset = str(reply.headers["Location"]), offset + len(chunk)
    digest = digest_of(b"".join(chunks))
    mark = "&" if "?" in location else "?"
    expect(fetch(server, "PUT", f"{location}{mark}digest={digest}"), 201)
    assert get_blob(server, "a/b", digest) == b"".join(chunks)
