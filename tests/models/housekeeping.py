"""What must hold in every state of the model, and the housekeepers that let things go.

Keys are those of `ociappr.registry.keys`: b digest = (state, birth, ((locator, length), …)), inline
without locators; u session = (state, ((locator, length, closed), …)); l repository = birth;
o, x locator; i digest birth; p child parent; m t h. g are the model's own notes of what clients
were told. A locator is <nonce>@<session>, and N… is promoted: its file is exactly its digest.
Digest D has 2 bytes, E has 1. *weak* names the rule that is taken away, "" none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tests.models.interleavings import (
    Commit,
    Copy,
    Entry,
    Files,
    Get,
    Keys,
    Pick,
    Story,
    Unlink,
    Value,
    alone,
    need,
    present,
    transaction,
)

SIZE = {"D": 2, "E": 1}
Present = dict[str, Value]


def commit(
    checks: Mapping[str, Entry],
    writes: Mapping[str, Value],
    *,
    empty: str = "",
    blind: Sequence[str] = (),
) -> Commit:
    """Return a commit; o is derived from the difference of the old and the new b."""
    derived: dict[str, Value] = {}
    for key in [key for key in writes if key[0] == "b"]:
        old = _places(checks[key].value)
        new = _places(writes[key])
        derived |= {f"o:{part}": None for part in sorted(old - new)}
        derived |= {f"o:{part}": key for part in sorted(new - old)}
    return transaction(checks, {**writes, **derived}, empty=empty, blind=blind)


def _places(record: Value) -> set[str]:
    return {part for part, _ in record[2]} if record else set()


# -- what must hold


def check(store: Keys, files: Files) -> None:
    """Raise `Violation` unless everything holds that must hold in every state."""
    value, size = present(store), {name: length for name, _, length in files}
    for key, record in value.items():
        match key[0]:
            case "b":
                _check_blob(key, record, value, size)
            case "u":
                for part, length, _ in record[1]:
                    need(size.get(part, 0) >= length, f"committed part {part} of {key} is gone")
            case "m":
                _check_manifest(key, record, value)
            case "t":
                need(f"m:{record}" in value, f"{key} outlives manifest {record}")
            case "l" | "g":
                _check_told(key, record, value)


def _check_blob(key: str, record: Value, value: Present, size: Mapping[str, int]) -> None:
    state, birth, parts = record
    name = key.partition(":")[2]
    inline = parts or {f"i:{name}:{birth}", f"i:{name}"} & value.keys()
    need(inline, f"the inline bytes of {state} {key} are gone")
    for part, length in parts:
        need(size.get(part, 0) >= (length or 1), f"{part} of {state} {key} is gone")
        need(part[0] != "N" or size[part] == length, f"promoted {part} is not its digest")
    total = sum(length or size[part] for part, length in parts)
    need(not parts or total == SIZE[name], f"{key} reads wrong bytes")


def _check_manifest(key: str, record: str, value: Present) -> None:
    name = key.partition(":")[2]
    state = value.get("b:D", ("absent", None, ()))[0]
    fine = record in {"plain", "index"} or state == "live"
    fine = fine or (record == "sparse" and state == "absent")
    need(fine, f"the child of {key} is {state}")
    need(record == "plain" or f"p:D:{name}" in value, f"{key} does not pin its child")
    need(record != "index" or "m:D" in value, f"retention broke {key}")


def _check_told(key: str, record: Value, value: Present) -> None:
    kind, _, name = key.partition(":")
    birth = value.get("b:D", ("absent", None, ()))[1]
    if kind == "l":
        void = birth is None or record not in {birth, "any"}
        need(void or f"g:{name}:{birth}" in value, f"{name} sees a blob it never pushed")
    elif name.startswith("t"):  # only D gets deleted
        need(record == "D" or value.get(name) == record, f"acknowledged {name} is lost")
    else:
        need(name[2:] != birth or f"l:{name[0]}" in value, f"the link of {name[0]} is lost")


def nobodys(name: str, store: Keys, files: Files) -> None:
    """Raise `Violation` when the sweeper unlinks what somebody names."""
    exists = any(file[0] == name for file in files)
    for key, value in present(store).items():
        named = key[0] in "bu" and any(part[0] == name for part in value[-1])
        owned = named or key == f"x:{name}"
        need(not (owned and exists), f"the sweeper takes {name}, which {key} names")


def settle(store: Keys, files: Files, weak: str) -> None:
    """Everybody stopped: let housekeepers run till nothing changes; nothing may be left over."""
    before: tuple[Present, Files] | None = None
    while before != (present(store), files):
        before = present(store), files
        for job in _jobs(*before, weak):
            store, files = alone(job, store, files)
    check(store, files)
    value = present(store)
    blobs = {key[2:]: record for key, record in value.items() if key[0] == "b"}
    named = {part for record in blobs.values() for part, _ in record[2]}
    for key, record in value.items():
        need(_is_kept(key, record, value, blobs), f"{key} is left for ever")
    for file in files:
        need(file[0] in named, f"bytes leak: {file[0]}")


def _jobs(value: Present, files: Files, weak: str) -> Iterator[Story]:
    yield from (expirer(weak, key[2:]) for key in value if key[0] == "u")
    yield from (collector(weak, key[2:]) for key in value if key[0] == "b")
    yield from (binner(weak, key) for key in value if key[0] == "x")
    yield from (sweeper(weak, file[0]) for file in sorted(files))


def _is_kept(key: str, record: Value, value: Present, blobs: Present) -> bool:
    match key[0]:
        case "u" | "x":
            return False
        case "o":
            return any(key[2:] == part for blob in blobs.values() for part, _ in blob[2])
        case "b":
            return any(pin.startswith("p" + key[1:]) for pin in value)
        case "i":
            return key[2] in blobs or key == "i:D"
        case "l":
            return record == "any" or ("D" in blobs and record == blobs["D"][1])
    return True


# -- housekeepers


def expirer(weak: str, session: str) -> Story:  # noqa: ARG001 - as all actors
    """Expire a session."""
    u = yield Get(f"u:{session}")
    if u.value:
        yield commit({f"u:{session}": u}, {f"u:{session}": None})


def sweeper(weak: str, name: str = "") -> Story:
    """Unlink one file if nobody owns it; an ended session owns nothing."""
    if not name:
        name = yield Pick("file")
    for kind in {"asks o before u": "oux", "asks x before o": "uxo"}.get(weak, "uox"):
        owner = yield Get(f"{kind}:{name.split('@')[1] if kind == 'u' else name}")
        if owner.value and (kind != "u" or owner.value[0] == "open"):
            return
    yield Unlink(name, nobodys)


def collector(weak: str, digest: str = "D") -> Story:
    """Condemn, then forget; what was inline leaves an entry in the bin for its links' sake."""
    key = f"b:{digest}"
    pins = "" if weak == "collector ignores pins" else f"p:{digest}"
    while (b := (yield Get(key))).value:
        state, birth, parts = b.value
        late = not parts and weak == "i without birth, deleted after b"
        gone: dict[str, Value] = {f"x:{part}": birth for part, _ in parts}
        if not parts and not late:
            gone[f"i:{digest}:{birth}"] = None
        if not parts and weak != "was: no bin entry for inline blobs":
            gone[f"x:{digest}@{birth}"] = birth
        new: dict[str, Value] = {key: None, **gone}
        if state == "live":
            new = {key: ("condemned", birth, parts)}
        if not (yield commit({key: b}, new, empty=pins)):
            return
        if late and state != "live":
            yield commit({}, {f"i:{digest}": None})


def binner(weak: str, entry: str = "") -> Story:
    """Take one entry from the bin: the void links of what was forgotten, its bytes, the entry."""
    if not entry:
        entry = yield Pick("x:")
    birth = (yield Get(entry)).value
    if not birth:
        return  # another was quicker
    for key in ("l:A", "l:B"):
        while (link := (yield Get(key))).value == birth:
            blind = (key,) if weak == "links cleaned unchecked" else ()
            done = yield commit({key: link}, {key: None}, blind=blind)
            if weak == "was: x goes, links or not" and done is None:
                break
    yield Unlink(entry[2:])
    yield commit({}, {entry: None})


def promoter(weak: str, me: str) -> Story:
    """Join the parts under a session of its own, then swap the list; a loser leaves its copy."""
    own, careless = f"u:{me}", weak == "promoter without Unchanged(b)"
    first = yield Get("b:D")
    if not first.value or first.value[2][0][0][0] == "N":
        return
    if not (yield Copy(first.value[2], f"N@{me}")):
        return
    while True:
        b = yield Get("b:D")
        u = yield Get(own)
        if not u.value or not (careless or (b.value and b.value[2] == first.value[2])):
            return
        if careless:
            b = first
        swapped: dict[str, Value] = {f"x:{part}": "swapped" for part, _ in first.value[2]}
        swapped |= {"b:D": (*b.value[:2], ((f"N@{me}", 2),)), own: None}
        blind = ("b:D",) if careless else ()
        if (yield commit({"b:D": b, own: u}, swapped, blind=blind)):
            return
