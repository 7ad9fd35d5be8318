"""Digests: parsed strictly, never mixed, and verified where bytes enter."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociappr.digest import ContentDigest, Digest, new_hash, verified
from ociappr.errors import DigestInvalid, SizeInvalid

SHA256, SHA512 = "a" * 64, "b" * 128


async def blocks(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("text", [f"sha256:{SHA256}", f"sha512:{SHA512}"])
def test_text_round_trips(text: str) -> None:
    assert str(Digest.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        ":",
        SHA256,
        f"sha256:{SHA256[:-1]}",
        f"sha256:{SHA256}a",
        f"sha256:{SHA256.upper()}",
        f"sha256:{SHA256[:-1]}g",
        f"sha256:{SHA256}\n",
        f"sha256: {SHA256[1:]}",
        f"sha256:{SHA512}",
        f"sha512:{SHA256}",
        f"SHA256:{SHA256}",
        f"md5:{'a' * 32}",
        f"blake3:{SHA256}",
        "sha256:" + "\u0661" * 64,
    ],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(DigestInvalid):
        Digest.parse(text)


@given(st.text())
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    try:
        parsed = Digest.parse(text)
    except DigestInvalid:
        return
    assert str(parsed) == text


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_of_hashes(algorithm: str) -> None:
    expected = hashlib.new(algorithm, b"bytes").hexdigest()
    assert Digest.of(b"bytes", algorithm=algorithm) == Digest(algorithm, expected)


def test_an_unsupported_algorithm_names_those_that_are() -> None:
    with pytest.raises(DigestInvalid) as caught:
        new_hash("md5")
    assert "sha256" in caught.value.hint


def test_order_is_that_of_the_text() -> None:
    digests = [Digest("sha512", SHA512), Digest("sha256", SHA256), Digest("sha256", "0" * 64)]
    assert sorted(digests) == sorted(digests, key=str)


def test_a_content_digest_is_bare_hex_and_no_digest() -> None:
    content = ContentDigest(SHA256)
    assert str(content) == SHA256
    for text in (f"sha256:{SHA256}", SHA256.upper(), SHA512, ""):
        with pytest.raises(DigestInvalid):
            ContentDigest(text)


async def test_verified_passes_true_bytes_on() -> None:
    passed = [block async for block in verified(blocks(b"ab", b"c"), Digest.of(b"abc"), size=3)]
    assert passed == [b"ab", b"c"]


@pytest.mark.parametrize(
    ("digest", "size", "error"),
    [
        (Digest.of(b"abd"), 3, DigestInvalid),
        (Digest.of(b"abc"), 2, SizeInvalid),
        (Digest.of(b"abc"), 4, SizeInvalid),
        (Digest.of(b"abd"), None, DigestInvalid),
    ],
)
async def test_verified_refuses_other_bytes(
    digest: Digest, size: int | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        assert [block async for block in verified(blocks(b"ab", b"c"), digest, size=size)]


async def test_verified_stops_at_the_first_byte_too_many() -> None:
    taken = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            taken.append(1)
            yield b"x" * 10

    with pytest.raises(SizeInvalid):
        assert [block async for block in verified(endless(), Digest.of(b""), size=25)]
    assert len(taken) == 3
