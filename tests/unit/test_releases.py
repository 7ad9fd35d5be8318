"""Releases and queries: the table of the original, and what must hold for any version."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociappr.errors import QueryInvalid, ReleaseInvalid
from ociappr.names import Tag
from ociappr.releases import Query, Release, select

TABLE = [
    "0.1.0",
    "0.3.0",
    "0.3.2-rc",
    "0.5.0",
    "0.5.2-rc",
    "0.7.0",
    "0.8.0-rc",
    "1.0.0-beta.2",
    "1.0.0",
    "1.0.0+build5",
]

numbers = st.integers(0, 10**6).map(str)
identifiers = st.one_of(numbers, st.from_regex(r"[a-zA-Z-][0-9a-zA-Z-]{0,5}", fullmatch=True))
dotted = st.lists(identifiers, min_size=1, max_size=4).map(".".join)
versions = st.tuples(
    st.tuples(numbers, numbers, numbers).map(".".join),
    st.one_of(st.just(""), dotted.map("-{}".format)),
    st.one_of(st.just(""), dotted.map("+{}".format)),
).map("".join)
releases = versions.map(Release)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("0.5.0", "0.5.0"),
        ("==0.5.0", "0.5.0"),
        ("=0.5.0", "0.5.0"),
        ("0.5", "0.5.0"),
        ("1", "1.0.0+build5"),
        ("*", "1.0.0+build5"),
        ("1.0.0", "1.0.0"),
        ("1.0.0+build5", "1.0.0+build5"),
        ("1.0.0+other", None),
        ("==0", "0.7.0"),
        ("^0.3.0", "0.3.0"),
        ("^0.3", "0.3.0"),
        ("~0.3.0", "0.3.0"),
        ("~=0.3.0", "0.3.0"),
        ("~=0.3", "0.7.0"),
        ("!=1.0.0", "0.7.0"),
        ("<=0.3.2", "0.3.0"),
        ("<0.5", "0.3.0"),
        ("<=0.5", "0.5.0"),
        (">0.5", "1.0.0+build5"),
        ("0.8.0-rc", "0.8.0-rc"),
        (" 0.5.0 ", "0.5.0"),
        (">= 0.5.0 , < 0.8.0", "0.7.0"),
        (">=0.3.0,<0.6.0", "0.5.0"),
        (">=0.3.0-,<0.6.0", "0.5.2-rc"),
        ("<0.4.0-", "0.3.2-rc"),
        ("<1.0.0", "0.7.0"),
        ("<1.0.0-", "1.0.0-beta.2"),
        (">1", None),
        ("^0.3.2-rc", "0.3.2-rc"),
        ("<=0.3.2-rc", "0.3.2-rc"),
        ("0.3.2", None),
        ("9.9.9", None),
        ("0.3.0 - 0.7.0", None),
        ("default", "1.0.0+build5"),
    ],
)
def test_query_selects_what_the_original_selected(query: str, found: str | None) -> None:
    chosen = select(map(Release, TABLE), Query(query))
    assert (chosen and chosen.text) == found


@pytest.mark.parametrize(
    "query",
    [
        *("abc", "latest", "Default", "v0.5.0", "-", "None", ",", ">=0.1.0,", "==", ">=", "", "é"),
        *("0.x", ">0.5.0 <0.8.0", "a|b", "01.2.3", "1..2", "1.2.3.4", "!", "1,2,x", "1.0.0-b_1"),
        *("9" * 5000, ">=1," * 300 + ">=1", "\0", "\ud800", "\u0661"),
    ],
)
def test_query_that_cannot_be_read_is_refused(query: str) -> None:
    with pytest.raises(QueryInvalid) as caught:
        Query(query)
    assert caught.value.detail == {"release": query}


def test_default_is_the_highest_even_if_it_is_a_pre_release() -> None:
    found = ["1.0.0-alpha", "1.0.0-rc.1", "1.0.0-beta.11", "1.0.0-beta.2"]
    assert select(map(Release, found), Query("default")) == Release("1.0.0-rc.1")
    assert select(map(Release, found), Query("*")) is None
    assert select(map(Release, found), Query(">=0.0.1-")) == Release("1.0.0-rc.1")


def test_nothing_is_selected_from_nothing() -> None:
    assert select([], Query("default")) is None


@pytest.mark.parametrize(
    "text",
    [
        *("1.0", "1", "v1.0.0", "01.0.0", "1.0.0-01", "1.2.3.4", "1.0.0-rc_1", "1.0.0 ", " 1.0.0"),
        *("", "latest", "default", "1.0.0-", "1.0.0+", "1.x.0", "-1.0.0", "1.0.0-é", "1.0.0\n"),
        *("1.0.0_b", "1.0.0+a+b", "1.0.0-" + "a" * 123, "1" * 125 + ".0.0", "\u0661.0.0"),
    ],
)
def test_release_that_is_no_semantic_version_is_refused(text: str) -> None:
    with pytest.raises(ReleaseInvalid) as caught:
        Release(text)
    assert caught.value.detail == {"version": text}


def test_a_tag_that_reads_as_no_version_carries_no_release() -> None:
    assert Release.of(Tag("latest")) is None
    assert Release.of(Tag("1.0")) is None
    assert Release.of(Tag("1.0.0_a_b")) is None
    assert Release.of(Tag("1.0.0_a")) == Release("1.0.0+a")


def test_numbers_are_ordered_as_numbers_and_text_as_text() -> None:
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2"]
    ordered += ["1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.0+1", "1.2.9", "1.2.10", "10.0.0"]
    assert sorted(map(Release, reversed(ordered))) == [Release(text) for text in ordered]


@given(releases)
def test_every_release_survives_its_tag(release: Release) -> None:
    assert Release.of(release.tag) == release


@given(releases, releases, releases)
def test_the_order_is_total(one: Release, two: Release, three: Release) -> None:
    assert (one < two) + (one == two) + (two < one) == 1
    assert (one == two) is (one.text == two.text)
    low, middle, high = sorted((one, two, three))
    assert low <= middle <= high
    assert low <= high


@given(st.lists(releases, min_size=1), st.data())
def test_an_exact_release_selects_itself(found: list[Release], data: st.DataObject) -> None:
    wanted = data.draw(st.sampled_from(found))
    assert select(found, Query(wanted.text)) == wanted


@given(st.lists(releases))
def test_a_query_without_a_hyphen_never_finds_a_pre_release(found: list[Release]) -> None:
    chosen = select(found, Query(">=0.0.0"))
    assert chosen == max((one for one in found if one.is_stable), default=None)


@given(st.text(alphabet="0123456789.*^~=<>!,-+ ax", max_size=20))
def test_any_text_is_a_query_or_refused(text: str) -> None:
    try:
        query = Query(text)
    except QueryInvalid:
        return
    select(map(Release, TABLE), query)


@given(st.one_of(st.text(max_size=20), st.text(alphabet="0123456789.-+a", max_size=20)))
def test_any_text_is_a_release_or_refused(text: str) -> None:
    try:
        release = Release(text)
    except ReleaseInvalid:
        return
    assert release.text == str(release) == text


@given(versions)
def test_equal_releases_are_one_key(text: str) -> None:
    assert len({Release(text), Release(text)}) == 1
