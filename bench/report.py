"""What was measured against what was promised: judged, printed, and kept as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from bench.loads import Sizes

_HERE: Final = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Promise:
    """What a measurement must reach: a ratio to the other server, a bound of our own, or both.

    The ratio says how many times better we are, whether more or less is better.
    """

    name: str
    unit: str
    more_is_better: bool
    ratio: float | None = None
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The samples of both servers for one promise; `theirs` is empty where only we are bound."""

    promise: Promise
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        """How many times better the median of our samples is than that of theirs."""
        if not self.theirs:
            return None
        ours, theirs = median(self.ours), median(self.theirs)
        return ours / theirs if self.promise.more_is_better else theirs / ours

    def kept(self, *, slack: float) -> bool:
        """Whether the promise holds; `slack` divides the ratio asked for, never the bound."""
        asked, bound, ours = self.promise.ratio, self.promise.bound, median(self.ours)
        if asked is not None and (self.ratio is None or self.ratio < asked / slack):
            return False
        if bound is None:
            return True
        return ours >= bound if self.promise.more_is_better else ours <= bound


def show(outcomes: Iterable[Outcome], *, slack: float) -> None:
    """Print one line for each promise."""
    print(f"{'':34}{'ociappr':>12}{'distribution':>14}{'ratio':>9}   promised")
    for outcome in outcomes:
        promise, ratio = outcome.promise, outcome.ratio
        theirs = f"{median(outcome.theirs):,.1f}" if outcome.theirs else "-"
        times = f"{ratio:.2f} x" if ratio is not None else "-"
        verdict = "" if outcome.kept(slack=slack) else "   MISSED"
        label = f"{promise.name} ({promise.unit})"
        ours = f"{median(outcome.ours):,.1f}"
        print(f"{label:34}{ours:>12}{theirs:>14}{times:>9}   {_asked(promise)}{verdict}")


def save(outcomes: Iterable[Outcome], sizes: Sizes) -> Path:
    """Write every sample to a new file under results/ and return its path."""
    now = datetime.now(UTC)
    document = {
        "when": now.isoformat(),
        "machine": {"system": platform.platform(), "python": platform.python_version()},
        "sizes": asdict(sizes),
        "outcomes": [asdict(x) | {"ratio": x.ratio} for x in outcomes],
    }
    target = _HERE / "results" / f"{now:%Y%m%dT%H%M%SZ}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(document, indent=2) + "\n")
    return target


def _asked(promise: Promise) -> str:
    asked = [] if promise.ratio is None else [f">= {promise.ratio:g} x"]
    if promise.bound is not None:
        asked.append(f"{'>=' if promise.more_is_better else '<='} {promise.bound:g} {promise.unit}")
    return ", ".join(asked)
