"""Several worker processes on one socket: a supervisor forks them, and keeps their number.

No worker outlives its supervisor, however that ends: each holds a pipe that closes with it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

_log = logging.getLogger("ociappr")
_ASKED = (signal.SIGTERM, signal.SIGINT)
_READY = signal.SIGUSR1
_SIGNALS = (*_ASKED, _READY, signal.SIGCHLD)
_SETTLED = 10.0  # seconds after which a worker's end is no sign of a crash loop
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 30.0

Work = Callable[[int, Callable[[], None]], int]
"""What a worker does, given its number and whom to tell when it is ready; an exit status."""


class Supervisor:
    """Runs *work* in *count* processes, and replaces those that end unasked.

    *close* lets go of what they share, when no more of them will begin. The first goes ahead: if it
    ends before it is ready, nothing else is tried, for it would fail in the same way. Signals are
    blocked and taken one by one, so none can come in between.
    """

    def __init__(self, work: Work, count: int, *, close: Callable[[], None]) -> None:
        self._work = work
        self._close = close
        self._count = count
        self._running: dict[int, tuple[int, float]] = {}
        self._due: dict[int, float] = {0: 0.0}
        self._crashes = [0] * count
        self._is_stopping = False
        self._was_ready = False
        self._status = 0
        self._pid = os.getpid()
        self._lifeline = os.pipe()

    def run(self) -> int:
        """Return the exit status when all workers have ended, asked by SIGTERM or SIGINT."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        while True:
            self._fork_due()
            if not self._running and not self._due:
                return self._status
            told = signal.sigtimedwait(_SIGNALS, self._pause())
            if told is None:
                continue
            if told.si_signo in _ASKED:
                self._stop()
            elif told.si_signo == _READY:
                self._begin_others()
            self._reap()

    def _pause(self) -> float:
        """Return the seconds until a worker is due, or until it does no harm to look."""
        next_ = min(self._due.values(), default=time.monotonic() + _LONGEST_PAUSE)
        return max(0.0, next_ - time.monotonic())

    def _begin_others(self) -> None:
        if not self._was_ready:
            self._was_ready = True
            if not self._is_stopping:
                self._due |= dict.fromkeys(range(1, self._count), 0.0)

    def _stop(self) -> None:
        """Pass the signal on; sent twice, it makes workers hurry."""
        self._is_stopping = True
        self._due.clear()
        self._close()
        for pid in self._running:
            os.kill(pid, signal.SIGTERM)

    def _reap(self) -> None:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            if pid in self._running:  # else an orphan, which the first process of a container gets
                number, born = self._running.pop(pid)
                self._ended(number, os.waitstatus_to_exitcode(status), time.monotonic() - born)

    def _ended(self, number: int, code: int, age: float) -> None:
        """Begin another worker soon, and the later the more of them died young in a row."""
        if self._is_stopping:
            if code not in (0, -signal.SIGTERM):
                self._status = 1
            return
        if not self._was_ready:
            self._status = code if code > 0 else 1
            return
        self._crashes[number] = self._crashes[number] + 1 if age < _SETTLED else 0
        pause = min(_FIRST_PAUSE * 2.0 ** self._crashes[number], _LONGEST_PAUSE)
        _log.error("worker %d ended with status %d; another begins in %.1f s", number, code, pause)
        self._due[number] = time.monotonic() + pause

    def _fork_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, moment in self._due.items() if moment <= now]:
            del self._due[number]
            pid = os.fork()
            if not pid:
                self._be_worker(number)
            self._running[pid] = (number, time.monotonic())

    def _be_worker(self, number: int) -> None:
        """Work, and end the process."""
        code = 1
        try:
            os.close(self._lifeline[1])
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all of us
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            threading.Thread(target=self._watch, daemon=True).start()
            code = self._work(number, self._tell_ready)
        except Exception:  # noqa: BLE001 - the end of the process; it is logged
            _log.exception("worker %d failed", number)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _tell_ready(self) -> None:
        if os.getppid() == self._pid:
            os.kill(self._pid, _READY)

    def _watch(self) -> None:
        """End this worker, gracefully, when the supervisor is gone: nobody else holds the pipe."""
        os.read(self._lifeline[0], 1)
        os.kill(os.getpid(), signal.SIGTERM)
