"""Names: what is a repository, a tag, a package; everything else is refused at the border."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociappr.digest import Digest
from ociappr.errors import DigestInvalid, NameInvalid, OciapprError, TagInvalid
from ociappr.names import (
    PackageName,
    Reference,
    RepositoryName,
    Tag,
    is_tag,
    parse_target,
    shown,
)

SHA256 = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    "text",
    ["a", "a/b", "a/b/c/d", "a.b", "a_b", "a__b", "a-b", "a---b", "0/1", "a" * 255],
)
def test_repositories(text: str) -> None:
    assert str(RepositoryName(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "A",
        "a..b",
        "a___b",
        "-a",
        "a-",
        ".",
        "..",
        "a/../b",
        "a\0b",
        "a b",
        "a\n",
        "a:b",
        "\u00e9",
        "\u0661",
        "a" * 256,
    ],
)
def test_what_is_no_repository(text: str) -> None:
    with pytest.raises(NameInvalid):
        RepositoryName(text)


@pytest.mark.parametrize("text", ["a", "_", "0", "A.b-c_d", "1.2.3_b1", "x" * 128])
def test_tags(text: str) -> None:
    assert str(Tag(text)) == text
    assert is_tag(text)


@pytest.mark.parametrize("text", ["", ".a", "-a", "a+b", "a/b", "a b", "a\n", "\u00e9", "x" * 129])
def test_what_is_no_tag(text: str) -> None:
    assert not is_tag(text)
    with pytest.raises(TagInvalid):
        Tag(text)


def test_a_package_is_a_repository_of_two_segments() -> None:
    package = PackageName("ns", "name")
    assert PackageName.of(package.repository) == package
    for text in ("one", "a/b/c"):
        assert PackageName.of(RepositoryName(text)) is None
    for namespace, name in (("a/b", "c"), ("a", "b/c"), ("A", "b"), ("", "b"), ("a", "")):
        with pytest.raises(NameInvalid):
            PackageName(namespace, name)


def test_a_target_is_a_tag_or_a_digest() -> None:
    repository = RepositoryName("a/b")
    assert str(Reference(repository, parse_target("1.0"))) == "a/b:1.0"
    assert str(Reference(repository, parse_target(SHA256))) == f"a/b@{SHA256}"
    assert isinstance(parse_target(SHA256), Digest)
    with pytest.raises(TagInvalid):
        parse_target("a+b")
    with pytest.raises(DigestInvalid):
        parse_target("sha256:totallywrong")


@given(st.text())
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    for parse in (RepositoryName, Tag, parse_target):
        told = text
        try:
            assert str(parse(text)) == text
        except OciapprError as error:
            told = error.message
        assert re.fullmatch(r"[\x20-\x7e\u2026]*", told)


@given(st.text())
def test_what_is_shown_is_short_and_printable(text: str) -> None:
    assert re.fullmatch(r"[\x20-\x7e\u2026]{2,80}", shown(text))
