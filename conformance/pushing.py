"""Clients that push at random and remember what was acknowledged."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import random
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final

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

PUSHERS: Final = 4
_SIZES: Final = (500, 20_000, 300_000, 2_000_000)
_PROXYS_OWN: Final = (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT)
_PATIENCE: Final = 90.0  # seconds


class UnavailableError(Exception):
    """The server answered, as it should, that it cannot at the moment."""


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

    def wait_for(self, more: int) -> None:
        """Return when so many *more* were acknowledged."""
        wanted, deadline = self.total + more, time.monotonic() + _PATIENCE
        while self.total < wanted:
            assert time.monotonic() < deadline, f"{self.total} acknowledged, waiting for {wanted}"
            time.sleep(0.01)

    def verify(self, server: Server) -> None:
        """Read all of it."""
        for repository, digest in self.blobs:
            get_blob(server, repository, digest)
        for repository, tag, digest in self.tags:
            raw, _, found = get_manifest(server, repository, tag)
            assert found == digest
            for layer in (json.loads(raw)["config"], *json.loads(raw)["layers"]):
                get_blob(server, repository, layer["digest"])
        for package, release, digest in self.packages:
            path = f"/api/v1/packages/{package}/{release}/kpm/pull"
            pulled = expect(fetch(server, "GET", path), 200).body
            assert hashlib.sha256(pulled).hexdigest() == digest


class Pusher:
    """One client, in repositories of its own."""

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
        """Push an image or a package.

        Raises `OSError` or `HTTPException` when the server is gone, `UnavailableError` when it
        says that it cannot.
        """
        self._random.choice((self._push_image, self._push_image, self._push_package))()

    def _push_image(self) -> None:
        layers = [self._content() for _ in range(self._random.randint(1, 3))]
        config = self._content(_SIZES[0])
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
        if reply.status in _PROXYS_OWN:
            raise ConnectionError("the server behind the proxy is gone")
        if reply.status == HTTPStatus.SERVICE_UNAVAILABLE:
            assert reply.headers["Retry-After"]
            assert json.loads(reply.body)
            raise UnavailableError
        expect(reply, status)
        return str(reply.headers.get("Location", ""))

    def _content(self, size: int = 0) -> bytes:
        seed = self._random.randbytes(32)
        size = size or self._random.choice(_SIZES)
        return (seed * (size // len(seed) + 1))[:size]


@contextmanager
def pushing(server: Server, told: Acknowledged, *, seed: str) -> Iterator[None]:
    """Have clients push within the block; each begins anew when the server fails it cleanly."""
    ended = threading.Event()

    def stubborn(number: int) -> None:
        attempt = 0
        while not ended.is_set():
            attempt += 1
            pusher = Pusher(server, told, seed=f"{seed}-{number}-{attempt}")
            try:
                while not ended.is_set():
                    pusher.push()
            except (OSError, http.client.HTTPException, UnavailableError):
                continue

    with in_threads([partial(stubborn, number) for number in range(PUSHERS)]):
        try:
            yield
        finally:
            ended.set()


@contextmanager
def in_threads(works: Sequence[Callable[[], None]]) -> Iterator[None]:
    """Have *works* done beside the block; wait for their ends, and raise what one of them met."""
    failures: list[BaseException] = []

    def recorded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised where the threads are waited for
            failures.append(error)

    threads = [threading.Thread(target=recorded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def check(servers: Servers, data: Path) -> None:
    """Ask the program itself, collect what nobody needs, and ask again."""
    for command in ("fsck", "gc", "fsck"):
        argv = (sys.executable, "-m", "ociappr", command, "--data", str(data))
        done = subprocess.run(
            argv, check=False, capture_output=True, text=True, env=servers.environment(data)
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def archive(content: bytes) -> bytes:
    """Return a tar.gz of one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as packed:
        info = tarfile.TarInfo("content")
        info.size = len(content)
        packed.addfile(info, io.BytesIO(content))
    return out.getvalue()


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
