"""A server whose data lie on a tiny volume of its own, which only it sees."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.servers import clean_environment, free_port, wait_ready
from conformance.wire import Server, digest_of, expect, fetch, get_blob, push_blob, push_image
from tests.server.conftest import lines

pytestmark = pytest.mark.slow

UNSHARE = shutil.which("unshare") or ""
MOUNT = 'mount -t tmpfs -o size=16m tmpfs "$0" && exec "$@"'


@dataclass(frozen=True, slots=True)
class Volume:
    """The server, and its data directory as seen from outside."""

    server: Server
    data: Path

    def fill(self) -> None:
        """Take all the room that is left."""
        with (self.data / "filler").open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return

    def clear(self) -> None:
        """Give the room back."""
        (self.data / "filler").unlink()


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    probe = [UNSHARE, "--user", "--map-root-user", "--mount", "true"]
    if not UNSHARE or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("nobody may mount here")
    data = tmp_path / "data"
    data.mkdir()
    host = f"127.0.0.1:{free_port()}"
    server = Server(host, f"http://{host}", data)
    command = [sys.executable, "-m", "ociappr", "serve", "--listen", host, "--data", str(data)]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*probe[:-1], "sh", "-c", MOUNT, str(data), *command],
            stderr=output,
            env=clean_environment(),
        )
    try:
        wait_ready(server, "/readyz", process=process, log=log)
        yield Volume(server, Path(f"/proc/{process.pid}/root{data}"))
    finally:
        process.terminate()
        assert process.wait(20) == 0
    told = [line for line in lines(log) if "message" in line]
    assert not [line for line in told if line["level"] == "error"]
    assert any("no room" in line["message"] or "space" in line["message"] for line in told)


def test_a_full_disk_is_told_and_loses_nothing(volume: Volume) -> None:
    server = volume.server
    kept = push_image(server, "a/b", "1.0.0", [b"kept" * 10_000])
    volume.fill()
    large = os.urandom(2_000_000)
    refused = [
        fetch(server, "POST", f"/v2/a/b/blobs/uploads/?digest={digest_of(body)}", body=body)
        for body in (large, large[:1000])
    ]
    for reply in refused:
        assert reply.status == 507, reply.body
        assert json.loads(reply.body)["errors"][0]["message"]
    assert fetch(server, "GET", "/v2/a/b/manifests/1.0.0").status == 200
    assert get_blob(server, "a/b", digest_of(b"kept" * 10_000)) == b"kept" * 10_000
    assert fetch(server, "GET", f"/v2/a/b/blobs/{digest_of(large)}").status == 404
    volume.clear()
    assert push_blob(server, "a/b", large) == digest_of(large)
    assert get_blob(server, "a/b", digest_of(large)) == large
    reply = expect(fetch(server, "GET", "/v2/a/b/manifests/1.0.0"), 200)
    assert reply.headers["Docker-Content-Digest"] == kept
