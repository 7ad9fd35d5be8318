"""kill -9 of the real server at random moments under parallel pushes: nothing acknowledged is lost.

OCIAPPR_CRASH_ROUNDS sets how often, three times on each store; some servers have two workers.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import pytest

from conformance.servers import Servers
from conformance.wire import (
    OCI_LAYER,
    OCI_MANIFEST,
    Server,
    digest_of,
    expect,
    fetch,
    get_blob,
    get_manifest,
)

ROUNDS = int(os.environ.get("OCIAPPR_CRASH_ROUNDS", "6"))
LIVES = 3
PUSHERS = 4
LONGEST = 0.8  # seconds until the kill, at most
_LOST = (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT)
"""What only a proxy answers."""
SIZES = (500, 20_000, 300_000, 2_000_000)


@dataclass(slots=True)
class Acknowledged:
    """What a server said it had stored, and with which digests."""

    blobs: list[tuple[str, str]] = field(default_factory=list)
    tags: list[tuple[str, str, str]] = field(default_factory=list)
    packages: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self.blobs) + len(self.tags) + len(self.packages)


class Pusher:
    """One client; it goes on until the server is gone."""

    def __init__(self, server: Server, told: Acknowledged, *, seed: str) -> None:
        self._server = server
        self._told = told
        self._random = random.Random(seed)
        self._name = seed
        self._count = 0
        self.repository = f"crash/{seed}"

    def run(self) -> None:
        """Push until the connection breaks, which is when the server was killed."""
        try:
            while True:
                self.push()
        except (OSError, http.client.HTTPException):
            return

    def push(self) -> None:
        """Push an image or a package; raise `OSError` or `HTTPException` if the server is gone."""
        self._random.choice((self._push_image, self._push_image, self._push_package))()

    def _push_image(self) -> None:
        layers = [self._content() for _ in range(self._random.randint(1, 3))]
        config = self._content(SIZES[0])
        for data in (config, *layers):
            self._random.choice((self._in_one, self._in_chunks))(data)
            self._told.blobs.append((self.repository, digest_of(data)))
        raw = _manifest(config, layers)
        self._count += 1
        tag = f"tag-{self._count}"
        path = f"/v2/{self.repository}/manifests/{tag}"
        self._ask("PUT", path, 201, body=raw, headers={"Content-Type": OCI_MANIFEST})
        self._told.tags.append((self.repository, tag, digest_of(raw)))

    def _push_package(self) -> None:
        self._count += 1
        package, release = f"crash/package-{self._name}", f"1.0.{self._count}"
        data = archive(self._content())
        document = {
            "release": release,
            "media_type": "kpm",
            "blob": base64.b64encode(data).decode(),
        }
        self._ask("POST", f"/api/v1/packages/{package}", 200, body=json.dumps(document).encode())
        self._told.packages.append((package, release, hashlib.sha256(data).hexdigest()))

    def _in_one(self, data: bytes) -> None:
        path = f"/v2/{self.repository}/blobs/uploads/?digest={digest_of(data)}"
        self._ask("POST", path, 201, body=data)

    def _in_chunks(self, data: bytes) -> None:
        location = self._ask("POST", f"/v2/{self.repository}/blobs/uploads/", 202)
        cuts = sorted(self._random.sample(range(1, len(data)), 2))
        for start, stop in zip((0, *cuts), (*cuts, len(data)), strict=True):
            headers = {"Content-Range": f"{start}-{stop - 1}"}
            location = self._ask("PATCH", location, 202, body=data[start:stop], headers=headers)
        mark = "&" if "?" in location else "?"
        self._ask("PUT", f"{location}{mark}digest={digest_of(data)}", 201)

    def _ask(
        self,
        method: str,
        path: str,
        status: int,
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> str:
        reply = fetch(self._server, method, path, body=body, headers=headers)
        if reply.status in _LOST:
            raise ConnectionError("the server behind the proxy is gone")
        expect(reply, status)
        return str(reply.headers.get("Location", ""))

    def _content(self, size: int = 0) -> bytes:
        seed = self._random.randbytes(32)
        size = size or self._random.choice(SIZES)
        return (seed * (size // len(seed) + 1))[:size]


@pytest.mark.parametrize("number", range(-(-ROUNDS // LIVES)))
def test_kill_minus_9(start_server: Servers, tmp_path: Path, number: int) -> None:
    """More than once onto the same data, so that it also recovers from what it recovered."""
    told, data = Acknowledged(), tmp_path / "data"
    for life in range(LIVES):
        workers = ("--workers", "2") if (number + life) % 3 == 0 else ()
        _push_until_killed(start_server, told, data, workers, seed=f"{number}-{life}")
        _verify(start_server, told, data, workers)
    assert told.total > 0
    _fsck(start_server, data)


def _push_until_killed(
    servers: Servers, told: Acknowledged, data: Path, arguments: tuple[str, ...], *, seed: str
) -> None:
    server = servers(*arguments, data=data)
    pushers = [Pusher(server, told, seed=f"{seed}-{number}") for number in range(PUSHERS)]
    failures: list[BaseException] = []
    threads = [
        threading.Thread(target=_recorded, args=(pusher.run, failures)) for pusher in pushers
    ]
    for thread in threads:
        thread.start()
    time.sleep(random.Random(seed).uniform(0.05, LONGEST))
    _kill(servers, server)
    for thread in threads:
        thread.join()
    assert failures == []


def _recorded(work: Callable[[], None], failures: list[BaseException]) -> None:
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - shown by the test that waits for the thread
        failures.append(error)


def _kill(servers: Servers, server: Server) -> None:
    """Kill the server and its workers, none of which gets to clean up."""
    children = Path(f"/proc/{servers.pid(server)}/task/{servers.pid(server)}/children")
    workers = [int(pid) for pid in children.read_text().split()]
    servers.kill(server)
    for pid in workers:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}/exe").exists() for pid in workers):
        assert time.monotonic() < deadline, "a worker outlives kill -9"
        time.sleep(0.01)


def _verify(servers: Servers, told: Acknowledged, data: Path, arguments: tuple[str, ...]) -> None:
    """Start again and read everything that was ever acknowledged."""
    server = servers(*arguments, data=data)
    for repository, digest in told.blobs:
        get_blob(server, repository, digest)
    for repository, tag, digest in told.tags:
        raw, _, found = get_manifest(server, repository, tag)
        assert found == digest
        for layer in (json.loads(raw)["config"], *json.loads(raw)["layers"]):
            get_blob(server, repository, layer["digest"])
    for package, release, digest in told.packages:
        path = f"/api/v1/packages/{package}/{release}/kpm/pull"
        archive = expect(fetch(server, "GET", path), 200).body
        assert hashlib.sha256(archive).hexdigest() == digest
    servers.stop(server)


def _fsck(servers: Servers, data: Path) -> None:
    """Ask the program itself, collect what nobody needs, and ask again."""
    for command in ("fsck", "gc", "fsck"):
        argv = (sys.executable, "-m", "ociappr", command, "--data", str(data))
        done = subprocess.run(
            argv, check=False, capture_output=True, text=True, env=servers.environment(data)
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def _manifest(config: bytes, layers: list[bytes]) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [_descriptor(OCI_LAYER, layer) for layer in layers],
    }
    return json.dumps(document).encode()


def _descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def archive(content: bytes) -> bytes:
    """Return a tar.gz of one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as packed:
        info = tarfile.TarInfo("content")
        info.size = len(content)
        packed.addfile(info, io.BytesIO(content))
    return out.getvalue()
