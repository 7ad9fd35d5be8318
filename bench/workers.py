"""Clients in processes of their own, so that several of them can keep a server busy."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Result = TypeVar("Result")


def in_parallel(count: int, work: Callable[[int], Result]) -> list[Result]:
    """Run `work(0)` to `work(count - 1)`, each in its own process, and return what they gave."""
    with ProcessPoolExecutor(count, mp_context=get_context("fork")) as pool:
        return list(pool.map(work, range(count)))


def fresh() -> str:
    """Return a name that no earlier run has used."""
    return os.urandom(8).hex()
