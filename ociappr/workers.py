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
from types import FrameType

_log = logging.getLogger("ociappr")
_SETTLED = 5.0
_LONGEST_PAUSE = 30.0


class Supervisor:
    """Runs *work* in a number of processes and replaces those that die unasked."""

    def __init__(self, work: Callable[[], None], count: int) -> None:
        self._work = work
        self._count = count
        self._started: dict[int, float] = {}
        self._stopping = False
        self._lifeline = os.pipe()

    def run(self) -> int:
        """Return the exit status when all workers have ended, asked by SIGTERM or SIGINT."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)
        failures = 0
        for _ in range(self._count):
            self._fork()
        while self._started:
            pid, status = os.wait()
            born = self._started.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if self._stopping:
                failures += code != 0
                continue
            failures = failures + 1 if time.monotonic() - born < _SETTLED else 0
            _log.error("worker %d ended with status %d; starting another", pid, code)
            self._pause(failures)
            if not self._stopping:
                self._fork()
        return 1 if failures else 0

    def _pause(self, failures: int) -> None:
        """Wait longer the more workers in a row died at once, so that a crash loop costs little."""
        if failures > self._count:
            time.sleep(min(2.0 ** (failures - self._count) / 2, _LONGEST_PAUSE))

    def _fork(self) -> None:
        pid = os.fork()
        if pid:
            self._started[pid] = time.monotonic()
            return
        code = 1
        try:
            os.close(self._lifeline[1])
            for name in (signal.SIGTERM, signal.SIGINT):
                signal.signal(name, signal.SIG_DFL)
            threading.Thread(target=self._watch, daemon=True).start()
            self._work()
            code = 0
        except Exception:  # noqa: BLE001 - the end of the process; it is logged
            _log.exception("the worker failed")
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _watch(self) -> None:
        """End this worker, gracefully, when the supervisor is gone: nobody else holds the pipe."""
        os.read(self._lifeline[0], 1)
        os.kill(os.getpid(), signal.SIGTERM)

    def _stop(self, _: int, __: FrameType | None) -> None:
        self._stopping = True
        for pid in list(self._started):
            os.kill(pid, signal.SIGTERM)
