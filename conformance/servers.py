"""Start, stop and kill servers of ours, each with a port and a data directory of its own."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from conformance.wire import Server, fetch

READY_WITHIN = 30.0  # seconds
STOPPED_WITHIN = 30.0  # seconds
LOG_SHOWN = 3000  # characters


@dataclass(slots=True)
class Servers:
    """A factory of servers below one directory, which remembers what it started.

    *places* tells on which stores the registry of a data directory lies; by default in it.
    """

    directory: Path
    places: Callable[[Path], Mapping[str, str]] = field(default=lambda _: {})
    _processes: dict[Server, subprocess.Popen[bytes]] = field(default_factory=dict)
    _logs: list[Path] = field(default_factory=list)

    def __call__(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        data: Path | None = None,
        host: str | None = None,
    ) -> Server:
        """Start ``ociappr serve`` and return when it is ready.

        *data* is the directory of a registry that was there before, *host* an address to take.
        """
        number = len(self._logs)
        log = self.directory / f"server-{number}.log"
        self._logs.append(log)
        host = host or f"127.0.0.1:{free_port()}"
        server = Server(host, f"http://{host}", data or self.directory / f"data-{number}")
        command = (sys.executable, "-m", "ociappr", "serve", "--listen", host)
        with log.open("wb") as output:
            process = subprocess.Popen(
                (*command, "--data", str(server.data), *arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment(server.data) | dict(env or {}),
            )
        self._processes[server] = process
        wait_ready(server, "/readyz", process=process, log=log)
        return server

    def environment(self, data: Path) -> dict[str, str]:
        """Return the environment in which any command of ours finds the registry of *data*."""
        return clean_environment() | dict(self.places(data))

    def stop(self, server: Server) -> int:
        """Send SIGTERM, wait for the end and return the exit status."""
        return self._end(server, signal.SIGTERM)

    def kill(self, server: Server) -> None:
        """Send SIGKILL and wait for the end."""
        self._end(server, signal.SIGKILL)

    def pid(self, server: Server) -> int:
        """Return the process id of a server that runs."""
        return self._processes[server].pid

    def stop_all(self) -> None:
        """Stop every server that still runs."""
        for server in list(self._processes):
            self.stop(server)

    def logs(self) -> str:
        """Return the end of every server's log."""
        return "\n".join(
            f"{log.name}:\n{log.read_text(errors='replace')[-LOG_SHOWN:]}" for log in self._logs
        )

    def _end(self, server: Server, number: signal.Signals) -> int:
        process = self._processes.pop(server)
        process.send_signal(number)
        try:
            return process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """Return this process's environment without settings of the registry."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OCIAPPR_")}


def wait_ready(
    server: Server,
    path: str,
    *,
    process: subprocess.Popen[bytes] | None = None,
    log: Path | None = None,
) -> None:
    """Ask for `path` until it is 200; fail when the process ends or the time is up."""
    deadline = time.monotonic() + READY_WITHIN
    said = "nothing"
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        try:
            reply = fetch(server, "GET", path)
        except (OSError, http.client.HTTPException) as error:
            said = str(error)
        else:
            said = f"{reply.status} {reply.body[:200]!r}"
            if reply.status == HTTPStatus.OK:
                return
        time.sleep(0.05)
    text = log.read_text(errors="replace")[-LOG_SHOWN:] if log else ""
    state = "still runs" if process is None else f"exit status {process.poll()}"
    message = f"{server.url}{path} is not ready ({state}, last answer: {said})\n{text}"
    raise RuntimeError(message)
