"""Install the named tools, or all; what is there already stays as it is."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from conformance.tools.table import TOOLS, cache, find


def main(names: list[str]) -> int:
    """Install one tool after the other and return the number of those that failed."""
    unknown = sorted(set(names) - TOOLS.keys())
    if unknown:
        sys.exit(f"unknown: {' '.join(unknown)}; known: {' '.join(TOOLS)}")
    cache().mkdir(parents=True, exist_ok=True)
    failed = 0
    with (cache() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second installer waits, then finds everything
        for name in names or TOOLS:
            if find(name) is None and not _install(name):
                failed += 1
    return failed


def _install(name: str) -> bool:
    begin = time.monotonic()
    try:
        TOOLS[name].install()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{name}: {error}\n{getattr(error, 'stdout', '')}", file=sys.stderr, flush=True)
        return False
    print(f"{name}: installed in {time.monotonic() - begin:.0f} s", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
