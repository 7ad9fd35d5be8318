"""What a store must keep beside the contract that writes long objects in parts, here of 8 MiB."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ociappr.blobstore import BlobStore, Part
from ociappr.digest import Digest
from ociappr.errors import DigestInvalid
from tests.contracts.blobstore import UPLOAD, content, every, read, staged, stream

MIB = 1024**2
UNIT = 8 * MIB


class MultipartContract:
    """Promises about objects that are longer than one part."""

    @pytest.mark.parametrize("size", [UNIT - 1, UNIT, UNIT + 1, 3 * UNIT + 5])
    @pytest.mark.parametrize("promoted", [False, True])
    async def test_a_long_object_comes_back_as_it_went(
        self, store: BlobStore, size: int, *, promoted: bool
    ) -> None:
        data = content(size)
        expected = Digest.of(data) if promoted else None
        chunks = [data[at : at + 100_003] for at in range(0, size, 100_003)]
        locator, length = await store.stage(UPLOAD, stream(*chunks), expected=expected)
        assert length == size
        assert Digest.of(await read(store, locator)) == Digest.of(data)
        assert await read(store, locator, UNIT - 5, UNIT + 5) == data[UNIT - 5 : UNIT + 5]

    async def test_other_long_bytes_than_expected_leave_nothing(self, store: BlobStore) -> None:
        data = content(2 * UNIT)
        with pytest.raises(DigestInvalid):
            await store.stage(UPLOAD, stream(data, b"x"), expected=Digest.of(data))
        assert await every(store) == []

    @pytest.mark.parametrize(
        "lengths",
        [
            (12 * MIB, 1000, 12 * MIB, 3),
            (1000, 9 * MIB, 1000),
            (3 * MIB, 1, 3 * MIB, 6 * MIB, 2 * MIB),
            (1000, 5 * MIB + 10, 9 * MIB),
            (70 * MIB,),
        ],
    )
    async def test_large_and_small_parts_are_joined(
        self, store: BlobStore, lengths: Sequence[int]
    ) -> None:
        contents = [content(length, seed) for seed, length in enumerate(lengths)]
        parts = [await staged(store, data) for data in contents]
        whole = b"".join(contents)
        named = await store.promote(UPLOAD, parts, Digest.of(whole))
        assert Digest.of(await read(store, named)) == Digest.of(whole)

    async def test_the_beginning_of_a_long_part_is_promoted(self, store: BlobStore) -> None:
        data = content(2 * UNIT)
        part = await staged(store, data)
        wanted = [Part(part.locator, UNIT + 3, closed=False)]
        named = await store.promote(UPLOAD, wanted, Digest.of(data[: UNIT + 3]))
        assert Digest.of(await read(store, named)) == Digest.of(data[: UNIT + 3])
