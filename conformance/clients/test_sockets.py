"""Raw sockets: a PATCH cut off and resumed, many pushers of one tag, kill -9 during pushes."""

from __future__ import annotations

import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import pytest

from conformance.conftest import Server, Servers
from conformance.wire import (
    digest_of,
    expect,
    fetch,
    get_blob,
    get_manifest,
    push_blob,
    push_image,
    tags,
)

MIB: Final = 1 << 20
PUSHERS: Final = 20
SETTLED_WITHIN: Final = 30.0  # seconds


def pattern(seed: str, length: int) -> bytes:
    """Return bytes that no other seed gives."""
    return random.Random(seed).randbytes(length)


def begin(server: Server, repo: str) -> str:
    """Open an upload and return its path."""
    reply = expect(fetch(server, "POST", f"/v2/{repo}/blobs/uploads/"), 202)
    return str(reply.headers["Location"]).removeprefix(server.url)


def cut_off(server: Server, path: str, head: str, body: bytes) -> None:
    """Send the head and the beginning of a PATCH, then leave."""
    host, _, port = server.host.partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"PATCH {path} HTTP/1.1\r\nHost: {server.host}\r\n{head}\r\n".encode())
        connection.sendall(body)


def settled(server: Server, path: str) -> tuple[str, int]:
    """Ask for an upload until what it holds stays the same; return its path and its size."""
    deadline = time.monotonic() + SETTLED_WITHIN
    seen: list[int] = []
    while time.monotonic() < deadline:
        reply = expect(fetch(server, "GET", path), 204)
        path = str(reply.headers["Location"]).removeprefix(server.url)
        seen.append(int(reply.headers["Range"].rpartition("-")[2]) + 1)
        if len(seen) > 3 and seen[-1] > 1 and len(set(seen[-3:])) == 1:
            return path, seen[-1]
        time.sleep(0.1)
    pytest.fail(f"the upload did not settle: it held {seen} bytes")


def finish(server: Server, path: str, rest: bytes, *, start: int, digest: str) -> None:
    """Send the rest of an upload as one chunk and close it."""
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Range": f"{start}-{start + len(rest) - 1}",
    }
    reply = expect(fetch(server, "PATCH", path, headers=headers, body=rest), 202)
    path = str(reply.headers["Location"]).removeprefix(server.url)
    query = "&" if "?" in path else "?"
    expect(fetch(server, "PUT", f"{path}{query}digest={digest}"), 201)


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_cut_patch_is_resumed_where_the_server_stands(
    server: Server, repo: str, framing: str
) -> None:
    whole = pattern(repo, 8 * MIB)
    sent = whole[: 5 * MIB]
    path = begin(server, repo)
    if framing == "length":
        cut_off(server, path, f"Content-Length: {len(whole)}\r\n", sent)
    else:
        chunk = f"{len(sent):x}\r\n".encode() + sent + b"\r\n"
        cut_off(server, path, "Transfer-Encoding: chunked\r\n", chunk)
    path, kept = settled(server, path)
    assert 4 * MIB < kept <= len(sent)
    finish(server, path, whole[kept:], start=kept, digest=digest_of(whole))
    assert get_blob(server, repo, digest_of(whole)) == whole


def test_cut_patch_can_be_cut_again_and_again(server: Server, repo: str) -> None:
    whole = pattern(repo, 8 * MIB)
    path, kept = begin(server, repo), 0
    for end in (2 * MIB, 4 * MIB, 6 * MIB):
        head = f"Content-Length: {len(whole) - kept}\r\n"
        head += f"Content-Range: {kept}-{len(whole) - 1}\r\n"
        cut_off(server, path, head, whole[kept:end])
        before = kept
        path, kept = settled(server, path)
        assert before < kept <= end
    finish(server, path, whole[kept:], start=kept, digest=digest_of(whole))
    assert get_blob(server, repo, digest_of(whole)) == whole


def test_resuming_elsewhere_is_refused_and_harms_nothing(server: Server, repo: str) -> None:
    whole = pattern(repo, 3 * MIB)
    path = begin(server, repo)
    cut_off(server, path, f"Content-Length: {len(whole)}\r\n", whole[: 2 * MIB])
    path, kept = settled(server, path)
    for start in (0, kept - 1, kept + 1):
        headers = {"Content-Range": f"{start}-{start + 9}"}
        refused = expect(fetch(server, "PATCH", path, headers=headers, body=bytes(10)), 416)
        assert refused.headers["Range"] == f"0-{kept - 1}"
    finish(server, path, whole[kept:], start=kept, digest=digest_of(whole))
    assert get_blob(server, repo, digest_of(whole)) == whole


def test_cut_put_of_a_whole_blob_leaves_no_blob(server: Server, repo: str) -> None:
    whole = pattern(repo, 2 * MIB)
    path = begin(server, repo)
    host, _, port = server.host.partition(":")
    with socket.create_connection((host, int(port))) as connection:
        target = f"{path}{'&' if '?' in path else '?'}digest={digest_of(whole)}"
        head = (
            f"PUT {target} HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: {len(whole)}\r\n\r\n"
        )
        connection.sendall(head.encode() + whole[:MIB])
    expect(fetch(server, "HEAD", f"/v2/{repo}/blobs/{digest_of(whole)}"), 404)
    assert push_blob(server, repo, whole) == digest_of(whole)


def together(work: Callable[[int], str]) -> list[str]:
    """Run the work of all pushers at the same moment and return what each got."""
    barrier = threading.Barrier(PUSHERS)

    def start(number: int) -> str:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(PUSHERS) as pool:
        return list(pool.map(start, range(PUSHERS)))


def test_twenty_pushers_of_one_image_and_tag(server: Server, repo: str) -> None:
    layer = pattern(repo, MIB)
    digests = together(lambda _: push_image(server, repo, "latest", [layer]))
    assert get_manifest(server, repo, "latest")[2] in set(digests)
    assert len(set(digests)) == 1
    assert get_blob(server, repo, digest_of(layer)) == layer


def test_twenty_images_race_for_one_tag_and_one_wins_whole(server: Server, repo: str) -> None:
    shared = pattern(repo, MIB)
    own = [pattern(f"{repo}-{number}", 1000) for number in range(PUSHERS)]
    digests = together(lambda number: push_image(server, repo, "latest", [shared, own[number]]))
    assert len(set(digests)) == PUSHERS
    winner = digests.index(get_manifest(server, repo, "latest")[2])
    assert get_blob(server, repo, digest_of(own[winner])) == own[winner]
    for digest in digests:
        assert get_manifest(server, repo, digest)[2] == digest


@dataclass(slots=True)
class Pushers:
    """Clients that push small and larger images until their server dies, and remember each 201."""

    server: Server
    repo: str
    acknowledged: dict[str, str] = field(default_factory=dict)
    _enough: threading.Event = field(default_factory=threading.Event)

    def run(self, *, count: int, kill: Callable[[], None]) -> None:
        """Push with four clients; kill the server once `count` images are acknowledged."""
        with ThreadPoolExecutor(4) as pool:
            pushing = [pool.submit(self._push_until_death, n, count) for n in range(4)]
            assert self._enough.wait(60), "the pushers did not get far"
            kill()
            for each in pushing:
                each.result()

    def _push_until_death(self, pusher: int, count: int) -> None:
        for number in range(10_000):
            tag = f"t{len(self.acknowledged)}-{pusher}-{number}"
            layer = pattern(f"{self.repo}{tag}", 100 if number % 2 else 300_000)
            try:
                self.acknowledged[tag] = push_image(self.server, self.repo, tag, [layer])
            except (OSError, http.client.HTTPException):
                return
            if len(self.acknowledged) >= count:
                self._enough.set()


def test_kill_during_pushes_loses_nothing_acknowledged(start_server: Servers, repo: str) -> None:
    """The long form of this, with crash points inside the server, is a test of the server's own."""
    server = start_server()
    acknowledged: dict[str, str] = {}
    for enough in (5, 20, 40):
        pushers = Pushers(server, repo)
        pushers.run(count=enough, kill=partial(start_server.kill, server))
        acknowledged |= pushers.acknowledged
        server = start_server(data=server.data)
    stored = set(tags(server, repo))
    assert acknowledged.keys() <= stored
    for tag in stored:
        body, _, digest = get_manifest(server, repo, tag)
        assert acknowledged.get(tag, digest) == digest
        manifest = json.loads(body)
        for blob in (manifest["config"], *manifest["layers"]):
            assert len(get_blob(server, repo, blob["digest"])) == blob["size"]


def test_upload_goes_on_after_a_kill(start_server: Servers, repo: str) -> None:
    server = start_server()
    whole = pattern(repo, 2 * MIB)
    path = begin(server, repo)
    headers = {"Content-Range": f"0-{MIB - 1}"}
    expect(fetch(server, "PATCH", path, headers=headers, body=whole[:MIB]), 202)
    start_server.kill(server)
    server = start_server(data=server.data)
    path, kept = settled(server, path)
    assert kept == MIB
    finish(server, path, whole[kept:], start=kept, digest=digest_of(whole))
    assert get_blob(server, repo, digest_of(whole)) == whole
