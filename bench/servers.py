"""The two programs that are compared: how each is started, waited for, weighed and stopped."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.connection import Connection, ReplyError
from conformance.backends.s3 import BUCKET, KEY, SECRET, S3Server
from conformance.servers import clean_environment, free_port
from conformance.tools import table

_PATIENCE: Final = 120.0
_DISTRIBUTION: Final = """\
version: 0.1
log: {{level: {level}, accesslog: {{disabled: {silent}}}}}
storage:
  {driver}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
_FILES: Final = "filesystem: {rootdirectory: DATA, maxthreads: 100}"
_S3: Final = """\
s3: {{accesskey: {key}, secretkey: {secret}, region: us-east-1,
       regionendpoint: "{endpoint}", forcepathstyle: true, secure: false, bucket: {bucket},
       rootdirectory: /distribution}}
  redirect: {{disable: {streams}}}"""


class MissingToolError(Exception):
    """A program that a measurement needs is not installed."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One of the two servers: its name in the report, and the command that starts it.

    The command is made from a data directory, a port, and whether to log every request, which both
    do unless told otherwise.
    """

    name: str
    command: Callable[[Path, int, bool], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers; `started` is the seconds from its start to its first answer."""

    peer: Peer
    data: Path
    port: int
    pid: int
    started: float

    def peak_memory(self) -> int:
        """Return the largest resident size it ever had, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(x for x in status.splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


def find(tool: str) -> Path:
    """Return the program of a tool that the conformance tests know too."""
    program = table.find(tool)
    if program is None:
        raise MissingToolError(f"{tool} is not installed: {table.TOOLS[tool].hint()}")
    return program


@contextmanager
def running(peer: Peer, data: Path, *, logs: bool = True) -> Iterator[Running]:
    """Start a server on `data` and a free port, and stop it at the end."""
    data.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = peer.command(data, port, logs)
    log_path = data.parent / f"{data.name}.log"
    with log_path.open("ab") as log:
        begun = time.monotonic()
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=_ROOT,
            env=clean_environment() | dict(peer.environment),
        )
    try:
        _wait(process, port, log_path, deadline=begun + _PATIENCE)
        yield Running(peer, data, port, process.pid, time.monotonic() - begun)
    finally:
        process.terminate()
        process.wait(timeout=_PATIENCE)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path, *, deadline: float) -> None:
    while True:
        if process.poll() is not None:
            raise ReplyError(f"{process.args!r} ended: {log.read_text()[-2000:]}")
        try:
            with Connection(port) as connection:
                connection.request("GET", "/v2/", expect=200)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)
        else:
            return


def ours(python: str, environment: Mapping[str, str] | None = None) -> Peer:
    """Return this server, run by the interpreter `python`, on the stores of *environment*."""

    def command(data: Path, port: int, logs: bool) -> list[str]:  # noqa: FBT001 - see Peer
        settings = data.parent / f"{data.name}.yaml"
        settings.write_text(f"log: {{access: {str(logs).lower()}}}\n")
        options = ["--config", str(settings), "--listen", f"127.0.0.1:{port}", "--data", str(data)]
        return [python, "-m", "ociappr", "serve", *options]

    return Peer("ociappr", command, environment or {})


def theirs(driver: str = _FILES) -> Peer:
    """Return CNCF distribution, on the files of its data directory unless *driver* is another."""

    def command(data: Path, port: int, logs: bool) -> list[str]:  # noqa: FBT001 - see Peer
        settings = data.parent / f"{data.name}.yaml"
        level, silent = ("info", "false") if logs else ("error", "true")
        places = {"driver": driver.replace("DATA", str(data)), "port": port}
        settings.write_text(_DISTRIBUTION.format(level=level, silent=silent, **places))
        return [str(find("registry")), "serve", str(settings)]

    return Peer("distribution 3.0.0", command)


def theirs_on_s3(server: S3Server, *, streams: bool) -> Peer:
    """Return CNCF distribution on an S3 server; if not *streams* it sends clients there."""
    places = {"endpoint": server.endpoint, "key": KEY, "secret": SECRET, "bucket": BUCKET}
    return theirs(_S3.format(streams=str(streams).lower(), **places))


_ROOT: Final = Path(__file__).resolve().parent.parent
THEIRS: Final = theirs()
