"""The loads: each prepares what it needs outside of the clock and returns one number."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Final
from urllib.parse import urlsplit

from bench.connection import Connection, ReplyError
from bench.content import MANIFEST_TYPE, artifact, digest_of_blocks
from bench.pushing import LARGE, push, put_large, stream_large
from bench.seeds import TAGGED, tag_name
from bench.servers import Running, find
from bench.workers import fresh, in_parallel

_MEGABYTE: Final = 1_000_000
_WRITERS: Final = 4
_UPLOADERS: Final = 8


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured; `blob` and `upload` are bytes, `pairs` runs of each server."""

    pairs: int
    seconds: int
    blob: int
    artifacts: int
    tags: int
    upload: int


FULL: Final = Sizes(
    pairs=5, seconds=10, blob=200 << 20, artifacts=1000, tags=100_000, upload=1 << 30
)
QUICK: Final = Sizes(pairs=3, seconds=2, blob=32 << 20, artifacts=200, tags=5_000, upload=64 << 20)


def manifest_gets(server: Running, sizes: Sizes) -> float:
    """Measure manifests by tag per second: one wrk thread, 16 connections."""
    with Connection(server.port) as connection:
        push(connection, "bench/hot", "v1", artifact("hot"))
    url = f"http://127.0.0.1:{server.port}/v2/bench/hot/manifests/v1"
    options = ["-t1", "-c16", f"-d{sizes.seconds}s", "-H", f"Accept: {MANIFEST_TYPE}"]
    command = [str(find("wrk")), *options, url]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    if rate is None or "Non-2xx" in printed or "Socket errors" in printed:
        raise ReplyError(f"wrk met errors:\n{printed}")
    return float(rate.group(1))


def download(server: Running, sizes: Sizes) -> float:
    """Measure megabytes per second of one blob read over one connection."""
    digest = digest_of_blocks("download", sizes.blob)
    with Connection(server.port) as connection:
        put_large(connection, "download", digest, sizes.blob)
    with Connection(server.port) as connection, _clock() as elapsed:
        received = connection.drain(f"/v2/{LARGE}/blobs/{digest}")
    if received != sizes.blob:
        raise ReplyError(f"blob {digest}: {received} bytes, expected {sizes.blob}")
    return sizes.blob / _MEGABYTE / elapsed()


def redirected_download(server: Running, sizes: Sizes) -> float:
    """Measure megabytes per second of one blob that the server sends the client to S3 for."""
    digest = digest_of_blocks("download", sizes.blob)
    path = f"/v2/{LARGE}/blobs/{digest}"
    with Connection(server.port) as connection:
        put_large(connection, "download", digest, sizes.blob)
    with Connection(server.port) as connection, _clock() as elapsed:
        place = urlsplit(connection.request("GET", path, expect=307).headers["location"])
        with Connection(place.port or 80) as storage:
            received = storage.drain(f"{place.path}?{place.query}")
    if received != sizes.blob:
        raise ReplyError(f"blob {digest}: {received} bytes, expected {sizes.blob}")
    return sizes.blob / _MEGABYTE / elapsed()


def upload(server: Running, sizes: Sizes) -> float:
    """Measure megabytes per second of one new blob sent with one PUT that names its digest."""
    seed = fresh()
    digest = digest_of_blocks(seed, sizes.blob)
    with Connection(server.port) as connection, _clock() as elapsed:
        put_large(connection, seed, digest, sizes.blob)
    return sizes.blob / _MEGABYTE / elapsed()


def small_pushes(server: Running, sizes: Sizes) -> float:
    """Measure artifacts per second by four writers: new config, new layer, new manifest each."""
    each = sizes.artifacts // _WRITERS
    spans = in_parallel(_WRITERS, partial(_push_many, server.port, each))
    return each * _WRITERS / (max(end for _, end in spans) - min(begun for begun, _ in spans))


def tag_page(server: Running, sizes: Sizes) -> float:
    """Measure milliseconds for a page of 100 tags from the middle of the large repository."""
    path = f"/v2/{TAGGED}/tags/list?n=100&last={tag_name(sizes.tags // 2)}"
    spent = []
    with Connection(server.port) as connection:
        for _ in range(10):
            with _clock() as elapsed:
                reply = connection.request("GET", path, expect=200)
            if reply.body.count(b'"v') != 100 or tag_name(sizes.tags // 2 + 1) not in str(
                reply.body
            ):
                raise ReplyError(f"GET {path}: {reply.body[:200]!r}")
            spent.append(elapsed() * 1000)
    return median(spent)


def peak_memory(server: Running, sizes: Sizes) -> float:
    """Measure the peak resident MiB of eight parallel uploads, sent as docker sends them."""
    in_parallel(_UPLOADERS, partial(_stream, server.port, sizes.upload))
    return server.peak_memory() / (1 << 20)


def _push_many(port: int, count: int, _worker: int) -> tuple[float, float]:
    seed = fresh()
    images = [artifact(f"{seed}-{number}") for number in range(count)]
    with Connection(port) as connection:
        begun = time.monotonic()
        for number, image in enumerate(images):
            push(connection, f"bench/small-{seed[:4]}", f"v{number}", image)
        return begun, time.monotonic()


def _stream(port: int, length: int, _worker: int) -> None:
    seed = fresh()
    with Connection(port) as connection:
        stream_large(connection, seed, digest_of_blocks(seed, length), length)


@contextmanager
def _clock() -> Iterator[Callable[[], float]]:
    begun = time.monotonic()
    ended: list[float] = []
    yield lambda: ended[0] - begun
    ended.append(time.monotonic())
