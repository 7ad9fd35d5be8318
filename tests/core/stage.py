"""Two ways to direct what happens between any two steps: act at one, or stop the world at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from ociappr.blobstore import BlobStore, Locator, Part, Reached, Stored, UploadId
from ociappr.digest import Digest
from ociappr.metadata import Check, Delete, Entry, MetadataStore, Put, Write
from ociappr.registry import keys


@dataclass(frozen=True, slots=True)
class Call:
    """A call to a store: the method's name, and the keys or locators that it is about."""

    name: str
    about: tuple[str, ...] = ()
    checks: Sequence[Check] = ()
    writes: Sequence[Write] = ()

    def concerns(self, name: str, kinds: str, about: object = "") -> bool:
        """Tell whether this is a call of *name* about a key of each of these kinds.

        A capital letter asks for a key of its kind that is deleted; *about* for one of that name.
        """
        named = any(str(about) in key for key in self.about) or not about
        return self.name == name and named and all(kind in self._kinds for kind in kinds)

    @property
    def _kinds(self) -> set[str]:
        kinds = {key[0] for key in self.about}
        deleted = {chr(one.key[0]).upper() for one in self.writes if isinstance(one, Delete)}
        return kinds | deleted

    def put(self, key: bytes) -> bytes | None:
        """Return the value that a commit puts under *key*."""
        return next(
            (one.value for one in self.writes if isinstance(one, Put) and one.key == key), None
        )


class Director(Protocol):
    """Hears of every call before it is made and after it was answered."""

    async def before(self, call: Call) -> None:
        """Act, wait or raise before the call is made."""

    async def after(self, call: Call) -> None:
        """Act, wait or raise after the call was answered."""


class DirectedMetadata:
    """A metadata store whose every call passes by a director."""

    def __init__(self, inner: MetadataStore, director: Director) -> None:
        self._inner = inner
        self._director = director

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """Return what the inner store returns."""
        call = Call("get", _shown(keys))
        await self._director.before(call)
        found = await self._inner.get(keys)
        await self._director.after(call)
        return found

    async def scan(
        self, start: bytes, stop: bytes, *, limit: int, reverse: bool = False
    ) -> list[Entry]:
        """Return what the inner store returns."""
        call = Call("scan", _shown([start]))
        await self._director.before(call)
        found = await self._inner.scan(start, stop, limit=limit, reverse=reverse)
        await self._director.after(call)
        return found

    async def commit(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        """Commit to the inner store."""
        call = Call("commit", _shown([write.key for write in writes]), checks, writes)
        await self._director.before(call)
        await self._inner.commit(checks, writes)
        await self._director.after(call)

    async def close(self) -> None:
        """Close the inner store."""
        await self._inner.close()


class DirectedBlobs:
    """A blob store whose every call passes by a director, and every chunk that is staged."""

    def __init__(self, inner: BlobStore, director: Director) -> None:
        self._inner = inner
        self._director = director
        self.segment = inner.segment

    async def stage(
        self,
        upload: UploadId,
        chunks: AsyncIterable[bytes],
        *,
        expected: Digest | None = None,
        reached: Reached | None = None,
    ) -> tuple[Locator, int]:
        """Stage in the inner store."""
        call = Call("stage")
        await self._director.before(call)
        staged = await self._inner.stage(
            upload, self._directed(chunks), expected=expected, reached=reached
        )
        await self._director.after(call)
        return staged

    async def promote(self, upload: UploadId, parts: Sequence[Part], digest: Digest) -> Locator:
        """Promote in the inner store."""
        call = Call("promote", tuple(part.locator for part in parts))
        await self._director.before(call)
        locator = await self._inner.promote(upload, parts, digest)
        await self._director.after(call)
        return locator

    def cheap(self, parts: Sequence[Part], /) -> bool:
        """Tell what the inner store tells."""
        return self._inner.cheap(parts)

    def read(
        self, locator: Locator, start: int = 0, stop: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Read from the inner store."""
        return self._inner.read(locator, start, stop)

    async def delete(self, locator: Locator) -> None:
        """Delete in the inner store."""
        call = Call("delete", (locator,))
        await self._director.before(call)
        await self._inner.delete(locator)
        await self._director.after(call)

    async def walk(self, after: Locator | None = None) -> AsyncIterator[Stored]:
        """Walk the inner store."""
        async for stored in self._inner.walk(after):
            call = Call("walk", (stored.locator,))
            await self._director.before(call)
            yield stored

    async def close(self) -> None:
        """Close the inner store."""
        await self._inner.close()

    async def _directed(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        call = Call("chunk")
        async for chunk in chunks:
            await self._director.before(call)
            yield chunk
            await self._director.after(call)


Act = Callable[[Call], Awaitable[None]]


@dataclass(slots=True)
class _Scene:
    name: str
    kinds: str
    about: object
    act: Act


class Scenes:
    """Lets a test act once, just before or just after the first call of a kind.

    What the act does itself passes by unseen. What it raises, the caller sees instead of an answer;
    raised after a commit that is an outcome nobody knows.
    """

    def __init__(self) -> None:
        self._before: list[_Scene] = []
        self._after: list[_Scene] = []
        self._acting = False
        self.calls: list[Call] = []

    def before_next(self, name: str, kinds: str, act: Act, *, about: object = "") -> None:
        """Act before the next call of *name* that concerns *kinds* (see `Call.concerns`)."""
        self._before.append(_Scene(name, kinds, about, act))

    def after_next(self, name: str, kinds: str, act: Act, *, about: object = "") -> None:
        """Act after the next call of *name* that concerns *kinds*."""
        self._after.append(_Scene(name, kinds, about, act))

    @property
    def played(self) -> bool:
        """Whether nothing waits any more."""
        return not self._before and not self._after

    async def before(self, call: Call) -> None:
        """Remember the call and act."""
        if not self._acting:
            self.calls.append(call)
        await self._play(self._before, call)

    async def after(self, call: Call) -> None:
        """Act."""
        await self._play(self._after, call)

    async def _play(self, scenes: list[_Scene], call: Call) -> None:
        scene = next((one for one in scenes if call.concerns(one.name, one.kinds, one.about)), None)
        if scene is None or self._acting:
            return
        scenes.remove(scene)
        self._acting = True
        try:
            await scene.act(call)
        finally:
            self._acting = False


class Crash:
    """Stops the world at one step for ever: what waits there neither returns nor cleans up."""

    def __init__(self, step: int) -> None:
        self._left = step
        self.happened = asyncio.Event()

    async def before(self, call: Call) -> None:
        """Count a step, and stop if it is the one."""
        await self._step(call)

    async def after(self, call: Call) -> None:
        """Count a step, and stop if it is the one."""
        await self._step(call)

    async def _step(self, _: Call) -> None:
        self._left -= 1
        if self._left < 0:
            self.happened.set()
            await asyncio.get_running_loop().create_future()


def _shown(found: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(" ".join(keys.parts(key)) for key in found)
