"""python -m bench: measure both servers in interleaved pairs, print ratios, keep the samples.

Exit status: 0 when every promise is kept, 1 when one is missed. `--quick` uses small sizes and,
because short runs scatter, asks for a quarter of each ratio; bounds of memory and time stay. Both
log every request to a file, as they do by default; `--no-logs` silences both. `--python` names
another interpreter with this project's dependencies: one built without profile-guided optimization,
as pyenv builds by default, needs up to twice the time for a request.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from bench import loads, seeds
from bench.loads import FULL, QUICK, Sizes
from bench.report import Outcome, Promise, save, show
from bench.servers import THEIRS, Peer, Running, ours, running, theirs_on_s3
from conformance.backends.pairs import Backends

Load: TypeAlias = Callable[[Running, Sizes], float]
Start: TypeAlias = Callable[[Peer, Path], AbstractContextManager[Running]]

_SIDE_BY_SIDE: Final[tuple[tuple[Promise, Load], ...]] = (
    (Promise("manifest GET by tag", "1/s", more_is_better=True, ratio=3), loads.manifest_gets),
    (Promise("blob download", "MB/s", more_is_better=True, ratio=0.85), loads.download),
    (Promise("blob upload", "MB/s", more_is_better=True, ratio=1), loads.upload),
    (Promise("small push, 4 writers", "1/s", more_is_better=True, ratio=3), loads.small_pushes),
)
_THROUGH: Final[tuple[tuple[Promise, Load], ...]] = (
    (Promise("S3: blob upload", "MB/s", more_is_better=True, ratio=1), loads.upload),
    (Promise("S3: blob download, streamed", "MB/s", more_is_better=True), loads.download),
)
_AROUND: Final = Promise("S3: download, redirected", "MB/s", more_is_better=True, ratio=1)
_S3_MEMORY: Final = Promise("S3: peak of 8 uploads", "MiB", more_is_better=False, bound=200)
_START: Final = Promise("start, many manifests", "s", more_is_better=False, bound=2)
_MEMORY: Final = Promise("peak of 8 uploads", "MiB", more_is_better=False, bound=150)


def main(arguments: list[str]) -> int:
    """Measure, print and save; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--quick", action="store_true", help="small sizes, a quarter of each ratio")
    parser.add_argument("--no-logs", action="store_true", help="let neither log its requests")
    parser.add_argument("--python", default=sys.executable, help="what runs this server")
    asked = parser.parse_args(arguments)
    sizes, slack = (QUICK, 4.0) if asked.quick else (FULL, 1.0)
    with tempfile.TemporaryDirectory(prefix="ociappr-bench-") as folder:
        start = partial(running, logs=not asked.no_logs)
        outcomes = _measure(Path(folder), sizes, ours(asked.python), start)
        outcomes += _measure_s3(Path(folder), sizes, asked.python, start)
    show(outcomes, slack=slack)
    print(f"samples: {save(outcomes, sizes)}")
    return 0 if all(x.kept(slack=slack) for x in outcomes) else 1


def _measure(folder: Path, sizes: Sizes, peer: Peer, start: Start) -> list[Outcome]:
    outcomes = []
    with start(peer, folder / "ours") as us, start(THEIRS, folder / "theirs") as them:
        for promise, load in _SIDE_BY_SIDE:
            outcomes.append(_in_pairs(promise, load, us, them, sizes=sizes))
        seeds.push_manifests(us, sizes.tags)
        seeds.write_tags(them, sizes.tags)
        outcomes.append(_in_pairs(_tag_page(sizes), loads.tag_page, us, them, sizes=sizes))
    started = []
    for _ in range(sizes.pairs):
        with start(peer, folder / "ours") as again:
            started.append(again.started)
    outcomes.append(Outcome(_START, started))
    with start(peer, folder / "memory") as alone:
        outcomes.append(Outcome(_MEMORY, [loads.peak_memory(alone, sizes)]))
    return outcomes


def _measure_s3(folder: Path, sizes: Sizes, python: str, start: Start) -> list[Outcome]:
    """Measure both on one S3 server: streaming blobs, then sending clients there."""
    outcomes = []
    with closing(Backends(folder)) as backends:
        place, server = backends.places("sqlite+s3"), backends.s3
        streams = {"OCIAPPR_STORAGE__S3__REDIRECT": "never"}
        sends = {"OCIAPPR_STORAGE__S3__REDIRECT": "always"}
        ours_streaming = ours(python, {**place(folder / "streams"), **streams})
        ours_sending = ours(python, {**place(folder / "sends"), **sends})
        with (
            start(ours_streaming, folder / "streams") as us,
            start(theirs_on_s3(server, streams=True), folder / "theirs-s3") as them,
        ):
            for promise, load in _THROUGH:
                outcomes.append(_in_pairs(promise, load, us, them, sizes=sizes))
        with (
            start(ours_sending, folder / "sends") as us,
            start(theirs_on_s3(server, streams=False), folder / "theirs-s3") as them,
        ):
            outcomes.append(_in_pairs(_AROUND, loads.redirected_download, us, them, sizes=sizes))
        with start(ours_streaming, folder / "streams") as alone:
            outcomes.append(Outcome(_S3_MEMORY, [loads.peak_memory(alone, sizes)]))
    return outcomes


def _tag_page(sizes: Sizes) -> Promise:
    """Promise less of fewer tags: the other server reads all of them for each page."""
    ratio = 50 * sizes.tags / FULL.tags
    return Promise("page of many tags", "ms", more_is_better=False, ratio=ratio, bound=20)


def _in_pairs(promise: Promise, load: Load, us: Running, them: Running, *, sizes: Sizes) -> Outcome:
    print(f"{promise.name} ...", file=sys.stderr, flush=True)
    outcome = Outcome(promise)
    for _ in range(sizes.pairs):
        outcome.ours.append(load(us, sizes))
        outcome.theirs.append(load(them, sizes))
    return outcome


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
