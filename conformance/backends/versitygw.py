"""versitygw on loopback: S3 over a directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from conformance.backends.daemon import Daemon, program
from conformance.backends.s3 import KEY, SECRET, S3Server, answers, with_bucket
from conformance.servers import free_port


@contextmanager
def versitygw(directory: Path) -> Iterator[S3Server]:
    """Have it run within the block over *directory*, whose file system needs xattrs."""
    host = f"127.0.0.1:{free_port()}"
    data = directory / "data"
    data.mkdir()
    # without --keep-alive it closes every connection
    flags = ("--port", host, "--health", "/health", "--keep-alive", "--quiet", "posix", data)
    daemon = Daemon(
        (program("versitygw"), *flags),
        directory,
        partial(answers, f"http://{host}/health"),
        {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
    )
    with with_bucket(daemon, f"http://{host}") as server:
        yield server
