"""An explicit-state explorer: actors over one key-value store and one folder, in every order.

An actor is a generator: it yields one step and is sent the answer. A crash is an actor that takes
no further step. A commit of unknown outcome is answered None and lands at any later moment, or
never. Locals of an actor are its state, so they must have a faithful repr.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Value = Any
Answer = Any
File = tuple[str, str, int]
"""Name, inode (which bears its first name), length."""
Files = frozenset[File]
Keys = tuple[tuple[str, "Entry"], ...]

_VERSIONED = "bulmth"  # the kinds of key that somebody checks; other versions would be noise


class Entry(NamedTuple):
    """What is under a key; absence has no version."""

    value: Value = None
    version: int | None = None


class Violation(Exception):
    """Something that must hold does not."""


@dataclass(frozen=True, slots=True)
class Get:
    """Read a key; the answer is its entry."""

    key: str


@dataclass(frozen=True, slots=True)
class Pick:
    """Choose any file (``file``), or any key that begins so; each choice is explored."""

    kind: str


@dataclass(frozen=True, slots=True)
class Create:
    """Make a file."""

    name: str
    length: int


@dataclass(frozen=True, slots=True)
class Grow:
    """Write on through the creator's open file, whatever names it has by now."""

    name: str
    length: int


@dataclass(frozen=True, slots=True)
class Copy:
    """Join parts into a new file; the answer is False when one is gone."""

    parts: tuple[tuple[str, int], ...]
    name: str


@dataclass(frozen=True, slots=True)
class Link:
    """Give a file a second name, or with *moved* another one; False when the old one is gone."""

    old: str
    name: str
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Unlink:
    """Remove a name; *guard* judges whether it may go."""

    name: str
    guard: Callable[[str, Keys, Files], None] | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """Checks and writes; the answer is True, False for a conflict, None when nobody knows."""

    checks: tuple[tuple[str, int | None], ...]
    writes: tuple[tuple[str, Value], ...]
    empty: str


Step = Get | Pick | Create | Grow | Copy | Link | Unlink | Commit
Story = Generator[Step, Answer, None]
Judge = Callable[[Keys, Files], None]
State = tuple[tuple[int, ...], int, frozenset[Commit], int]
"""The node of each actor, the number of the world, the commits that may still land, and how many
more may have an unknown outcome."""
Label = tuple[str, Step, Answer]


def need(truth: object, text: str) -> None:
    """Raise `Violation` unless *truth*."""
    if not truth:
        raise Violation(text)


def present(store: Keys) -> dict[str, Value]:
    """Return the values of the keys that are there."""
    return {key: entry.value for key, entry in store if entry.value is not None}


def transaction(
    checks: Mapping[str, Entry],
    writes: Mapping[str, Value],
    *,
    empty: str = "",
    blind: Sequence[str] = (),
) -> Commit:
    """Return a commit; None deletes a key, *blind* checks are left out."""
    kept = tuple((key, entry.version) for key, entry in checks.items() if key not in blind)
    return Commit(kept, tuple(writes.items()), empty)


def committed(store: Keys, step: Commit) -> Keys | None:
    """Return the store after a commit, or None for a conflict."""
    entries = dict(store)
    for key, version in step.checks:
        entry = entries.get(key, Entry())
        if (entry.version if entry.value is not None else None) != version:
            return None
    if step.empty and any(key.startswith(step.empty) for key in present(store)):
        return None
    for key, value in step.writes:
        if key[0] in _VERSIONED and (value is not None or key in entries):
            entries[key] = Entry(value, (entries.get(key, Entry()).version or 0) + 1)
        elif value is not None:
            entries[key] = Entry(value, 1)
        else:
            entries.pop(key, None)
    return tuple(sorted(entries.items(), key=lambda item: item[0]))


Outcome = tuple[Answer, Keys, Files]


def outcomes(step: Step, store: Keys, files: Files) -> Iterator[Outcome]:
    """Yield each answer that a step can have, with the store and the files after it."""
    match step:
        case Get(key):
            found = dict(store).get(key, Entry())
            yield found if found.value is not None else Entry(), store, files
        case Pick(kind):
            named = [file[0] for file in files] if kind == "file" else list(present(store))
            for name in sorted(named):
                if kind == "file" or name.startswith(kind):
                    yield name, store, files
        case Commit():
            after = committed(store, step)
            yield after is not None, store if after is None else after, files
        case _:
            yield from _on_files(step, store, files)


def _on_files(step: Step, store: Keys, files: Files) -> Iterator[Outcome]:
    at = {file[0]: file for file in files}
    match step:
        case Create(name, length):
            yield True, store, files | {(name, name, length)}
        case Grow(name, length):
            grown = ((n, inode, length if inode == name else old) for n, inode, old in files)
            yield True, store, frozenset(grown)
        case Copy(parts, name):
            there = all(part in at for part, _ in parts)
            joined = {(name, name, sum(length for _, length in parts))} if there else set()
            yield there, store, files | joined
        case Link(old, name, moved):
            linked = {(name, *at[old][1:])} if old in at else set()
            gone = {at[old]} if linked and moved else set()
            yield bool(linked), store, (files | linked) - gone
        case Unlink(name, guard):
            if guard is not None:
                guard(name, store, files)
            yield True, store, frozenset(file for file in files if file[0] != name)


def alone(story: Story, store: Keys, files: Files) -> tuple[Keys, Files]:
    """Return the store and the files after one actor ran undisturbed."""
    answer: Answer = None
    while True:
        try:
            step = story.send(answer)
        except StopIteration:
            return store, files
        answer, store, files = next(outcomes(step, store, files))


class Actor:
    """An automaton learnt from a generator by replaying it.

    Pasts that end at one place with equal locals are one node.
    """

    def __init__(self, name: str, make: Callable[[], Story]) -> None:
        self.name = name
        self.steps: list[Step | None] = []
        self._make = make
        self._numbers: dict[str, int] = {}
        self._pasts: list[tuple[Answer, ...]] = []
        self._edges: dict[tuple[int, Answer], int] = {}
        self._node(())

    def after(self, node: int, answer: Answer) -> int:
        """Return the node that *answer* leads to."""
        key = node, answer
        if key not in self._edges:
            self._edges[key] = self._node((*self._pasts[node], answer))
        return self._edges[key]

    def _node(self, past: tuple[Answer, ...]) -> int:
        step, place = _replay(self._make(), past)
        number = self._numbers.setdefault(place, len(self.steps))
        if number == len(self.steps):
            self._pasts.append(past)
            self.steps.append(step)
        return number


def _replay(story: Story, past: tuple[Answer, ...]) -> tuple[Step | None, str]:
    """Return the step that follows *past*, and a text that tells this place from others."""
    try:
        step = story.send(None)
        for answer in past:
            step = story.send(answer)
    except StopIteration:
        return None, ""
    place: list[object] = [step]
    frame: Any = story
    while frame is not None:
        place.append((frame.gi_frame.f_lasti, sorted(frame.gi_frame.f_locals.items())))
        frame = frame.gi_yieldfrom
    return step, repr(place)


Ends = tuple[tuple[Answer, int], ...]


class Worlds:
    """Numbers for the stores and folders that were seen: far fewer than states.

    Each is judged once, and each step is taken once in each.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._numbers: dict[tuple[Keys, Files], int] = {}
        self._worlds: list[tuple[Keys, Files]] = []
        self._fine: set[int] = set()
        self._ends: dict[tuple[int, Step], Ends] = {}

    def number(self, store: Keys, files: Files) -> int:
        """Return the number of a world."""
        number = self._numbers.setdefault((store, files), len(self._worlds))
        if number == len(self._worlds):
            self._worlds.append((store, files))
        return number

    def judge(self, world: int) -> None:
        """Raise what the judge raises."""
        if world not in self._fine:
            self._judge(*self._worlds[world])
            self._fine.add(world)

    def ends(self, world: int, step: Step) -> Ends:
        """Return each answer that *step* can have, with the world after it."""
        key = world, step
        if key not in self._ends:
            found = outcomes(step, *self._worlds[world])
            self._ends[key] = tuple(
                (answer, self.number(store, files)) for answer, store, files in found
            )
        return self._ends[key]


def moves(actors: Sequence[Actor], worlds: Worlds, state: State) -> Iterator[tuple[Label, State]]:
    """Yield each step that can be next, and the state that it leads to."""
    nodes, world, late, unknown = state
    for number, actor in enumerate(actors):
        step = actor.steps[nodes[number]]
        if step is None:
            continue
        head, tail = nodes[:number], nodes[number + 1 :]
        for answer, after in worlds.ends(world, step):
            to = (*head, actor.after(nodes[number], answer), *tail)
            yield (actor.name, step, answer), (to, after, late, unknown)
        if isinstance(step, Commit) and unknown:
            to = (*head, actor.after(nodes[number], None), *tail)
            yield (actor.name, step, "unknown"), (to, world, late | {step}, unknown - 1)
    for waiting in late:
        for landed, after in worlds.ends(world, waiting):
            if landed:
                yield ("late", waiting, True), (nodes, after, late - {waiting}, unknown)


@dataclass(frozen=True, slots=True)
class Explored:
    """How many states there are, and how the first violation came about, if there is one."""

    states: int
    violation: str
    trace: tuple[Label, ...]


def explore(
    actors: Sequence[Actor], keys: Mapping[str, Value], files: Mapping[str, int], *,
    unknown: int, judge: Judge,
) -> Explored:  # fmt: skip
    """Visit every state, with up to *unknown* commits of unknown outcome; *judge* each."""
    store = tuple(sorted((key, Entry(value, 1)) for key, value in keys.items()))
    named = frozenset((name, name, length) for name, length in files.items())
    worlds = Worlds(judge)
    start: State = ((0,) * len(actors), worlds.number(store, named), frozenset(), unknown)
    seen: dict[State, tuple[State, Label] | None] = {start: None}
    todo = deque([start])
    while todo:
        state = todo.popleft()
        try:
            worlds.judge(state[1])
            for label, after in moves(actors, worlds, state):
                if after not in seen:
                    seen[after] = state, label
                    todo.append(after)
        except Violation as violation:
            return Explored(len(seen), str(violation), _trace(seen, state))
    return Explored(len(seen), "", ())


def _trace(seen: Mapping[State, tuple[State, Label] | None], state: State) -> tuple[Label, ...]:
    trace = []
    while (before := seen[state]) is not None:
        state, label = before
        trace.append(label)
    return tuple(reversed(trace))
