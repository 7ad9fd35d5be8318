"""What clients ask for, as the real code does it, and as it must not; see `housekeeping`."""

from __future__ import annotations

from tests.models.housekeeping import SIZE, commit
from tests.models.interleavings import Create, Entry, Get, Grow, Link, Story, Unlink, Value


def _linked(repository: str, birth: str, weak: str = "") -> dict[str, Value]:
    shown = "any" if weak == "l without birth" else birth
    return {f"l:{repository}": shown, f"g:{repository}:{birth}": 1}


def _revived(b: Entry) -> dict[str, Value]:
    condemned = b.value and b.value[0] != "live"
    return {"b:D": ("live", *b.value[1:])} if condemned else {}


# -- uploads


def closing_put(  # noqa: C901 - one story, told in its order
    weak: str, me: int, session: str = "1", digest: str = "D", repository: str = "A", body: int = 0
) -> Story:
    """Close an upload: promote one closed part by a second name, else name the parts as they lie.

    A promoted part keeps its first name, for a rival that has named it.
    """
    key, own, tidy = f"b:{digest}", f"u:{session}", weak == "cleans up after an unknown outcome"
    u = yield Get(own)
    if not u.value or u.value[0] != "open":
        return  # 404, or 201 when linked here
    if body:
        yield Create(f"B{me}@{session}", body)
    parts = u.value[1] + (((f"B{me}@{session}", body, True),) if body else ())
    if sum(length for _, length, _ in parts) != SIZE[digest]:
        return  # DigestInvalid
    unmeasured = weak == "was: b without lengths"
    names = tuple((part, None if unmeasured else length) for part, length, _ in parts)
    mine = ""
    if len(parts) == 1 and (parts[0][2] or weak == "was: an open part is promoted"):
        mine = f"N{'' if weak == 'promoted name without nonce' else me}@{session}"
        names = ((mine, parts[0][1]),)
        if not (yield Link(parts[0][0], mine, moved=weak == "was: promote renames")):
            return
    while True:
        now = yield Get(own)
        if now != u and not (weak == "a cancelled upload can be finished" and now.value):
            if weak == "promoted name without nonce" and mine:
                yield Unlink(mine)
            return  # ended by another: 201 if linked here, else 404
        b = yield Get(key)
        new = ("live", *b.value[1:]) if b.value else ("live", str(me), names)
        writes: dict[str, Value] = {own: None, key: new} | (
            _linked(repository, new[1]) if digest == "D" else {}
        )
        if mine and b.value:
            writes[f"x:{mine}"] = "lost"  # another birth won: ours goes to the bin
        done = yield commit({own: now, key: b}, writes)
        if mine and (done or (done is None and tidy)):
            yield Unlink(parts[0][0] if done else mine)
        if done or (done is None and tidy):
            return


def cancel(weak: str, session: str = "1") -> Story:  # noqa: ARG001 - as all actors
    """Cancel an upload."""
    yield commit({}, {f"u:{session}": ("ended", ())})


def patch(weak: str, me: int, offset: int, lengths: tuple[int, ...], session: str = "1") -> Story:
    """Append a part, committed at each of *lengths*; all but the last are checkpoints of it."""
    own, part = f"u:{session}", f"F{me}@{session}"
    lazy, named = weak == "was: u comes with the first part", False
    u = yield Get(own)
    if not u.value and not offset and not lazy:  # a fresh signed id
        if not (yield commit({own: u}, {own: ("open", ())})):
            return
        u = yield Get(own)
    before = u.value[1] if u.value else ()
    state = u.value[0] if u.value else lazy and "open"
    if state != "open" or sum(length for _, length, _ in before) != offset:
        return  # 404, 416
    for length in lengths:
        yield Create(part, length) if length == lengths[0] else Grow(part, length)
        new = ("open", (*before, (part, length, length == lengths[-1])))
        while True:
            done = yield commit({own: u}, {own: new})
            named = named or done is not False  # perhaps u names our part, then it is not ours
            now = yield Get(own)
            if now.value == new:
                break
            if now == u and not done:
                continue  # it had not landed: once more
            if not now.value and weak == "was: an expired upload is a fresh id" and not offset:
                u = now
                continue
            if not named or weak == "was: the loser deletes its part":
                yield Unlink(part)
            return  # 404, 416
        u = now


def push_inline(weak: str, me: str, repository: str) -> Story:
    """Push a small blob: no session, and each run of the body draws a new birth."""
    run = 0
    while True:
        run = run + (weak != "was: one birth for all runs")
        b = yield Get("b:D")
        birth = b.value[1] if b.value else f"{me}{run}"
        place = "i:D" if weak == "i without birth, deleted after b" else f"i:D:{birth}"
        born = _revived(b) if b.value else {"b:D": ("live", birth, ()), place: 1}
        if (yield commit({"b:D": b}, born | _linked(repository, birth, weak))):
            return


def delete_link(weak: str, repository: str) -> Story:  # noqa: ARG001 - as all actors
    """Take a blob out of a repository."""
    key = f"l:{repository}"
    link = yield Get(key)
    if link.value:
        yield commit({key: link}, {key: None, f"g:{repository}:{link.value}": None})


# -- manifests


def put_manifest(weak: str, repository: str, sparse: str = "") -> Story:
    """Check the child's b (if absent, that it still is), revive it and pin it."""
    while True:
        link = yield Get(f"l:{repository}")
        b = yield Get("b:D")
        if not (link.value in (b.value[1], "any") if b.value else sparse):
            return  # ManifestBlobUnknown
        careless = weak == "manifest does not check b"
        careless = careless or (weak == "was: an absent child is not checked" and not b.value)
        writes = _revived(b) | {f"m:{repository}": sparse or "full", f"p:D:{repository}": 1}
        blind = ("b:D",) if careless else ()
        if (yield commit({"b:D": b}, writes, blind=blind)) is not False:
            return


def put_tag(weak: str, tag: str, digest: str, pushed: str = "") -> Story:
    """Tag: the last writer wins, but m is checked and written again; *pushed* brings it, too."""
    while (m := (yield Get(f"m:{digest}"))).value or pushed:
        writes = {f"t:{tag}": digest, f"h:{digest}:{tag}": 1, f"g:t:{tag}": digest}
        if not m.value or weak != "tag does not rewrite m":
            writes[f"m:{digest}"] = "plain"
        if (yield commit({f"m:{digest}": m}, writes)):
            return


def read_hint(weak: str, digest: str, tag: str, deleting: str = "") -> Story:
    """Read the hint, then the tag: a stale hint is dropped, checked; a deleter deletes the tag."""
    hint, key = f"h:{digest}:{tag}", f"t:{tag}"
    while (h := (yield Get(hint))).value:
        t = yield Get(key)
        if t.value == digest and not deleting:
            return
        if t.value == digest:
            blind = (key,) if weak == "was: tags deleted unchecked" else ()
            done = yield commit({key: t}, {key: None, hint: None}, blind=blind)
        else:
            blind = (hint,) if weak == "was: hints dropped unchecked" else ()
            done = yield commit({hint: h}, {hint: None}, blind=blind)
        if done:
            return


def delete_manifest(weak: str, digest: str, tags: tuple[str, ...]) -> Story:
    """Delete the tags that hints lead to, then m; start over when m changed meanwhile."""
    looked = False
    while (m := (yield Get(f"m:{digest}"))).value:
        for tag in () if looked and weak == "deleter does not look again" else tags:
            yield from read_hint(weak, digest, tag, "deleting")
        looked = True
        if (yield commit({f"m:{digest}": m}, {f"m:{digest}": None})):
            return


def put_index(weak: str) -> Story:
    """Pin a child found by its m, and write that again, as a tag does."""
    again = {} if weak == "was: index does not rewrite m" else {"m:D": "plain"}
    while (m := (yield Get("m:D"))).value:
        if (yield commit({"m:D": m}, {"m:I": "index", "p:D:I": 1} | again)):
            return


def retire(weak: str) -> Story:  # noqa: ARG001 - as all actors
    """Let an untagged manifest go, which spares the children of indexes."""
    while (m := (yield Get("m:D"))).value and not (yield Get("p:D:I")).value:
        if (yield commit({"m:D": m}, {"m:D": None})):
            return
