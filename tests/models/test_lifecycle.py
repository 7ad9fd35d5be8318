"""The life of uploads, blobs, links, manifests and tags: small scenarios, every interleaving.

Every state is also judged as the place where all actors crashed: the housekeepers run, and nothing
may be left over. Grace periods are not modelled: collectors are as hasty as can be. Each scenario
holds as designed and fails in each weakened variant; ``was:`` marks what an earlier design allowed.
That the real code keeps each rule is tested in `tests.core.test_rules`.

Deletion has no model of its own: "pins" and "links" have its pushers, its manifest and its
collectors, and more. Nor have pins set in batches before their manifest: that loses blobs, so
manifests pin in the commit that makes them, as `put_manifest` does here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.models.clients import (
    cancel,
    closing_put,
    delete_link,
    delete_manifest,
    patch,
    push_inline,
    put_index,
    put_manifest,
    put_tag,
    read_hint,
    retire,
)
from tests.models.housekeeping import binner, check, collector, expirer, promoter, settle, sweeper
from tests.models.interleavings import Actor, Explored, Files, Keys, Story, Value, explore, present

Part = tuple[Callable[..., Story], *tuple[object, ...]]

TWO = ("open", (("F@1", 1, True), ("G@1", 1, True)))
ONE = ("open", (("F@1", 2, True),))
HALF = ("open", (("F@1", 1, True),))
IDLE: tuple[str, tuple[()]] = ("open", ())
LONG_PATCH: Part = (patch, 1, 0, (1, 2))


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who acts on what; *more* actors make it large, *unknown* commits have no known outcome."""

    keys: Mapping[str, Value]
    files: Mapping[str, int]
    cast: list[Part]
    more: list[Part] = field(default_factory=list)
    unknown: int = 0
    variants: tuple[str, ...] = ()


SCENARIOS: dict[str, Scenario] = {
    "promote": Scenario(
        {"u:1": TWO, "u:P": IDLE, "u:Q": IDLE},
        {"F@1": 1, "G@1": 1},
        [(closing_put, 1), (promoter, "P"), (promoter, "Q"), (sweeper,), (collector,), (binner,)],
        more=[(expirer, "P")],
        variants=("promoter without Unchanged(b)", "asks o before u", "asks x before o"),
    ),
    "pins": Scenario(
        {"u:1": TWO, "u:P": IDLE},
        {"F@1": 1, "G@1": 1},
        [
            (closing_put, 1),
            (put_manifest, "A"),
            (promoter, "P"),
            (collector,),
            (collector,),
            (binner,),
        ],
        more=[(sweeper,)],
        variants=("collector ignores pins", "manifest does not check b"),
    ),
    "inline": Scenario(
        {"u:1": ONE},
        {"F@1": 2},
        [(push_inline, "a", "A"), (closing_put, 1, "1", "D", "B"), (collector,), (binner,)],
        more=[(collector,)],
        unknown=1,
        variants=(
            "i without birth, deleted after b",
            "was: no bin entry for inline blobs",
            "was: x goes, links or not",
            "was: one birth for all runs",
        ),
    ),
    "links": Scenario(
        {"b:D": ("live", "0", ()), "i:D:0": 1, "l:A": "0", "g:A:0": 1},
        {},
        [
            (put_manifest, "A"),
            (push_inline, "a", "A"),
            (push_inline, "b", "B"),
            (collector,),
            (binner,),
        ],
        more=[(delete_link, "A")],
        variants=("l without birth", "links cleaned unchecked", "manifest does not check b"),
    ),
    "sparse": Scenario(
        {},
        {},
        [(put_manifest, "A", "sparse"), (push_inline, "b", "B"), (collector,), (collector,)],
        more=[(push_inline, "a", "A")],
        unknown=1,
        variants=("was: an absent child is not checked",),
    ),
    "closing": Scenario(
        {"u:1": ONE},
        {"F@1": 2},
        [(closing_put, 1), (closing_put, 2), (cancel,), (sweeper,), (expirer, "1")],
        more=[(collector,), (binner,)],
        unknown=1,
        variants=(
            "was: promote renames",
            "promoted name without nonce",
            "cleans up after an unknown outcome",
            "a cancelled upload can be finished",
        ),
    ),
    "two digests": Scenario(
        {"u:1": HALF},
        {"F@1": 1},
        [
            (closing_put, 1, "1", "D", "A", 1),
            (closing_put, 2, "1", "E", "B"),
            (sweeper,),
            (collector,),
        ],
        more=[(cancel,), (expirer, "1")],
        unknown=1,
        variants=("was: promote renames",),
    ),
    "checkpoint": Scenario(
        {},
        {},
        [LONG_PATCH, (patch, 2, 1, (1,)), (closing_put, 3), (sweeper,), (expirer, "1")],
        more=[(closing_put, 4, "1", "E", "B"), (collector,)],
        unknown=1,
        variants=(
            "was: an expired upload is a fresh id",
            "was: the loser deletes its part",
            "was: u comes with the first part",
            "was: b without lengths",
        ),
    ),
    "open part": Scenario(
        {},
        {},
        [LONG_PATCH, (closing_put, 3, "1", "E", "B"), (sweeper,), (expirer, "1")],
        more=[(collector, "E")],
        unknown=1,
        variants=("was: an open part is promoted",),
    ),
    "tags": Scenario(
        {"m:D": "plain", "m:E": "plain", "t:x": "E", "g:t:x": "E", "h:E:x": 1, "h:D:x": 1},
        {},
        [
            (put_tag, "x", "D"),
            (put_tag, "x", "E"),
            (delete_manifest, "D", ("x", "y")),
            (read_hint, "D", "x"),
        ],
        more=[(put_tag, "y", "D", "pushed")],
        unknown=1,
        variants=(
            "tag does not rewrite m",
            "deleter does not look again",
            "was: hints dropped unchecked",
            "was: tags deleted unchecked",
        ),
    ),
    "index": Scenario(
        {"m:D": "plain"},
        {},
        [(put_index,), (retire,), (retire,)],
        unknown=1,
        variants=("was: index does not rewrite m",),
    ),
}

SLOW = ("promote", "pins", "inline", "links", "checkpoint")
"""Scenarios with up to half a million states; the others take less than a second."""


def run(scenario: Scenario, weak: str = "", *, large: bool = False) -> Explored:
    """Explore a scenario with the rule *weak* taken away."""
    calm: set[tuple[object, Files]] = set()

    def judge(store: Keys, files: Files) -> None:
        check(store, files)
        plain = tuple(present(store).items()), files
        if plain not in calm:
            calm.add(plain)
            settle(store, files, weak)

    cast = scenario.cast + (scenario.more if large else [])
    actors = [
        Actor(f"{story.__name__}{number}", partial(story, weak, *arguments))
        for number, (story, *arguments) in enumerate(cast)
    ]
    return explore(actors, scenario.keys, scenario.files, unknown=scenario.unknown, judge=judge)


def _holds(name: str, *, large: bool = False) -> None:
    explored = run(SCENARIOS[name], large=large)
    told = "\n".join(f"{who:16} {step} -> {answer}" for who, step, answer in explored.trace)
    assert not explored.violation, f"{explored.violation}\n{told}"
    assert explored.states > 30


_VARIANTS = [(name, weak) for name, one in SCENARIOS.items() for weak in one.variants]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in SCENARIOS],
)
def test_the_design_holds(name: str) -> None:
    _holds(name)


@pytest.mark.parametrize(("name", "weak"), _VARIANTS)
def test_each_rule_is_needed(name: str, weak: str) -> None:
    assert run(SCENARIOS[name], weak).violation


@pytest.mark.soak
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_design_holds_with_more_actors(name: str) -> None:
    _holds(name, large=True)
