"""MinIO on loopback: one node, one drive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from conformance.backends.daemon import Daemon, program
from conformance.backends.s3 import KEY, SECRET, S3Server, answers, with_bucket
from conformance.servers import free_port


@contextmanager
def minio(directory: Path) -> Iterator[S3Server]:
    """Have it run within the block over *directory*."""
    host, console = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    flags = ("--address", host, "--console-address", console)
    daemon = Daemon(
        (program("minio"), "server", directory / "data", *flags),
        directory,
        partial(answers, f"http://{host}/minio/health/ready"),
        {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_BROWSER": "off"},
    )
    with with_bucket(daemon, f"http://{host}") as server:
        yield server
