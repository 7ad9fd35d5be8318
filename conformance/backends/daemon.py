"""A server of somebody else's: started on loopback, with a directory of its own, and ended."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from conformance.servers import clean_environment
from conformance.tools import table

_READY_WITHIN = 60.0  # seconds
_STOPPED_WITHIN = 30.0
_LOG_SHOWN = 3_000  # characters


@dataclass(slots=True)
class Daemon:
    """A server process that can be ended and begun again over the same data."""

    argv: Sequence[str | Path]
    directory: Path
    ready: Callable[[], bool]
    """Tells whether it answers; raises `OSError` as long as nobody listens."""
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    """Who runs it; those that refuse to run as root name somebody."""
    ending: signal.Signals = signal.SIGTERM
    """What asks it to end."""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.directory / "log"

    @property
    def pid(self) -> int:
        """Its process id while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and return when it answers."""
        assert self._process is None, "it runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(word) for word in self.argv],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment() | dict(self.env),
                start_new_session=True,
                user=self.user if os.geteuid() == 0 else None,
            )
        deadline = time.monotonic() + _READY_WITHIN
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.argv[0]} did not start:\n{self.tail()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask it to end, and wait; it must run."""
        self._end(self.ending)

    def kill(self) -> None:
        """End it as a loss of power would, with its children; it must run."""
        for pid in self._freeze():
            _kill(pid)
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again over the same data."""
        self.kill()
        self.start()

    @contextmanager
    def down(self) -> Iterator[None]:
        """Have it killed within the block, and running again behind it."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have it stand still within the block: connections stay, nothing answers."""
        frozen = self._freeze()
        try:
            yield
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-_LOG_SHOWN:]

    def _answers(self) -> bool:
        try:
            return self.ready()
        except OSError:
            return False

    def _freeze(self) -> list[int]:
        """Stop it and all that it started, and return who they are: some leave its group."""
        found, waiting = [], [self.pid]
        while waiting:
            pid = waiting.pop()
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                found.append(pid)
                for children in Path(f"/proc/{pid}/task").glob("*/children"):
                    waiting += map(int, children.read_text().split())
        return found

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        process, self._process = self._process, None
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(process.pid, number)
        try:
            process.wait(_STOPPED_WITHIN)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _kill(pid: int) -> None:
    """Kill a process and return when it is gone, whoever is its parent."""
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [], _STOPPED_WITHIN)
    finally:
        os.close(process)


@contextmanager
def running(daemon: Daemon) -> Iterator[Daemon]:
    """Have *daemon* started within the block, and stopped behind it if it still runs."""
    daemon.start()
    try:
        yield daemon
    finally:
        if daemon._process is not None:  # noqa: SLF001 - a test may have left it killed
            daemon.stop()


def program(name: str) -> Path:
    """Return the path of a tool; raise `LookupError` with the command that installs it."""
    path = table.find(name)
    if path is None:
        raise LookupError(f"{name} is not installed: {table.TOOLS[name].hint()}")
    return path
