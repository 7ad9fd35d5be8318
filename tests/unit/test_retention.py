"""What retention decides, and the reasons it gives, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from ociappr.digest import Digest
from ociappr.media import OCI_MANIFEST
from ociappr.names import RepositoryName, Tag
from ociappr.registry.patterns import RepositoryPattern, TagPattern, VersionRange
from ociappr.registry.records import ManifestRecord, TagKind, TagRecord, stamp
from ociappr.registry.retention import Decision, Member, State, StoredTag, decide
from ociappr.registry.rules import Order, RetentionRule

NOW = datetime(2030, 1, 31, tzinfo=UTC)
DAY = timedelta(days=1)
NAME = RepositoryName("ci/app")
SIGNED = Digest.of(b"signed")
Kept = Mapping[str, str]


def days(number: float) -> datetime:
    """Return the moment so many days ago."""
    return NOW - number * DAY


def tag(name: str, age: float = 0, *, of: str = "any", law: str = "") -> StoredTag:
    record = TagRecord(TagKind.TAG, stamp(days(age)), digest=str(Digest.of(of.encode())))
    return StoredTag(Tag(name), 1, record, law)


def channel(name: str, current: str, *members: str) -> StoredTag:
    record = TagRecord(TagKind.CHANNEL, stamp(NOW), current=current, members=members)
    return StoredTag(Tag(name), 1, record)


def member(name: str, *parents: str, subject: str = "", untagged: float | None = None) -> Member:
    record = ManifestRecord(
        OCI_MANIFEST,
        1,
        stamp(days(300)),
        subject=str(Digest.of(subject.encode())) if subject else "",
        untagged=stamp(days(untagged)) if untagged is not None else "",
    )
    above = tuple(Digest.of(parent.encode()) for parent in parents)
    return Member(Digest.of(name.encode()), 1, record, above)


def state(
    tags: Sequence[StoredTag] = (),
    members: Sequence[Member] = (),
    *,
    pulled: Mapping[str, float] | None = None,
    recorded: float | None = 100,
) -> State:
    return State(
        NAME,
        tags,
        {one.digest: one for one in members},
        {name: days(age) for name, age in (pulled or {}).items()},
        days(recorded) if recorded is not None else None,
    )


def about_tags(found: State, *rules: RetentionRule) -> tuple[Kept, set[str]]:
    """Return the tags that are kept, with the reasons, and those that go."""
    decisions = [one for one in decide(found, rules, NOW) if isinstance(one.item, Tag)]
    assert len(decisions) == len(found.tags)
    kept = {str(one.item): one.reason for one in decisions if one.kept}
    return kept, {str(one.item) for one in decisions if not one.kept}


VERSIONS = [tag("1.0.0", 1), tag("1.10.0", 2), tag("v1.9.0", 3), tag("2.0.0-rc.1", 4), tag("edge")]


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (
            RetentionRule(keep_newest=2),
            {
                "edge": "one of the 2 newest by time of push: retention[0]",
                "1.0.0": "one of the 2 newest by time of push: retention[0]",
            },
        ),
        (
            RetentionRule(keep_newest=2, order=Order.SEMVER),
            {
                "edge": "no rule is about it",
                "2.0.0-rc.1": "one of the 2 newest by version: retention[0]",
                "1.10.0": "one of the 2 newest by version: retention[0]",
            },
        ),
        (
            RetentionRule(keep_tags=(TagPattern("e*"), TagPattern("/v.*/"))),
            {"edge": "matches e*: retention[0]", "v1.9.0": "matches /v.*/: retention[0]"},
        ),
        (
            RetentionRule(keep_versions=VersionRange(">=1.9")),
            {
                "1.10.0": "a version within >=1.9: retention[0]",
                "v1.9.0": "a version within >=1.9: retention[0]",
            },
        ),
        (
            RetentionRule(keep_pushed_within=DAY),
            {"edge": "pushed 0s ago: retention[0]", "1.0.0": "pushed 1d ago: retention[0]"},
        ),
        (
            RetentionRule(keep_newest=1, keep_tags=(TagPattern("v*"),)),
            {
                "edge": "one of the 1 newest by time of push: retention[0]",
                "v1.9.0": "matches v*: retention[0]",
            },
        ),
        (
            RetentionRule(tags=(TagPattern("1.*"),), keep_tags=(TagPattern("1.10.0"),)),
            {
                "1.10.0": "matches 1.10.0: retention[0]",
                **dict.fromkeys(["v1.9.0", "2.0.0-rc.1", "edge"], "no rule is about it"),
            },
        ),
        (
            RetentionRule(repositories=(RepositoryPattern("other"),), keep_newest=1),
            {str(one.tag): "no rule is about it" for one in VERSIONS},
        ),
        (
            RetentionRule(delete_untagged_after=DAY),
            {str(one.tag): "retention[0] removes no tags" for one in VERSIONS},
        ),
    ],
)
def test_what_a_rule_keeps(rule: RetentionRule, kept: Kept) -> None:
    every = {str(one.tag) for one in VERSIONS}
    assert about_tags(state(VERSIONS), rule) == (kept, every - kept.keys())


def test_the_first_rule_about_a_tag_governs_it() -> None:
    pull_requests = RetentionRule(tags=(TagPattern("pr-*"),), keep_pushed_within=7 * DAY)
    rest = RetentionRule(keep_newest=1)
    tags = [tag("pr-1", 8), tag("pr-2", 6), tag("a", 9), tag("b", 20)]
    kept, gone = about_tags(state(tags), pull_requests, rest)
    assert kept == {
        "pr-2": "pushed 6d ago: retention[0]",
        "a": "one of the 1 newest by time of push: retention[1]",
    }
    assert gone == {"pr-1", "b"}


def test_what_is_kept_whatever_the_rules_say() -> None:
    signature = tag(f"sha256-{SIGNED.hex}.sig", 5)
    orphan = tag(f"sha256-{'0' * 64}.sig", 5)
    tags = [
        *(tag("1.0.0", 5), tag("2.0.0", 5), tag("3.0.0_b1", 5), tag("fixed", 5, law="immutable")),
        *(channel("stable", "2.0.0", "1.0.0"), channel("next", "3.0.0+b1")),
        *(signature, orphan, tag("newest"), tag("old", 9)),
    ]
    members = [member("any"), member("signed", untagged=0)]
    kept, gone = about_tags(state(tags, members), RetentionRule(keep_newest=1))
    assert kept == {
        "stable": "a channel",
        "next": "a channel",
        "1.0.0": "a release of the channel stable",
        "2.0.0": "a release of the channel stable",
        "3.0.0_b1": "a release of the channel next",
        "fixed": "immutable",
        str(signature.tag): f"attached to {SIGNED}, which is here",
        "newest": "one of the 1 newest by time of push: retention[0]",
    }
    assert gone == {str(orphan.tag), "old"}


@pytest.mark.parametrize(
    ("pulled", "recorded", "reason"),
    [
        ({"x": 2}, 100, "pulled 2d ago: retention[0]"),
        ({str(Digest.of(b"any")): 0.125}, 100, "pulled 3h ago: retention[0]"),
        ({"x": 5}, 100, None),
        ({}, 100, None),
        ({}, 3, "pulls are recorded since 2030-01-28T00:00 only: retention[0]"),
        ({"x": 5}, None, "no pulls were recorded yet: retention[0]"),
    ],
)
def test_last_pulls(pulled: Mapping[str, float], recorded: float | None, reason: str) -> None:
    found = state([tag("x", 50)], pulled=pulled, recorded=recorded)
    kept, gone = about_tags(found, RetentionRule(keep_pulled_within=4 * DAY))
    assert (kept, gone) == (({"x": reason}, set()) if reason else ({}, {"x"}))


# -- manifests -----------------------------------------------------------------------------------

WEEK = RetentionRule(delete_untagged_after=7 * DAY)


def about_manifests(found: State, *rules: RetentionRule) -> dict[Digest, Decision]:
    """Return the decisions about manifests."""
    decisions = [one for one in decide(found, rules, NOW) if isinstance(one.item, Digest)]
    by_digest = {one.item: one for one in decisions if isinstance(one.item, Digest)}
    assert by_digest.keys() == found.manifests.keys()
    return by_digest


def fates(found: State, *rules: RetentionRule) -> str:
    """Return for each manifest in its order K when it is kept, D when it goes."""
    decisions = about_manifests(found, *rules)
    return "".join("K" if decisions[digest].kept else "D" for digest in found.manifests)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([member("a")], "K"),
        ([member("b")], "K"),  # first seen untagged now
        ([member("b", untagged=6.9)], "K"),
        ([member("b", untagged=7)], "D"),
        ([member("b", "a", untagged=9), member("a")], "KK"),
        ([member("b", "i", untagged=9), member("i", untagged=9)], "DD"),
        ([member("b", "i", untagged=9), member("i", untagged=1)], "KK"),
        ([member("b", "i", untagged=1), member("i", untagged=9)], "KD"),
        ([member("b", "unread", untagged=9)], "K"),
        ([member("s", subject="a", untagged=9), member("a")], "KK"),
        ([member("s", subject="gone", untagged=9)], "D"),
        ([member("s", subject="b", untagged=9), member("b", untagged=9)], "DD"),
        ([member("s", subject="b", untagged=9), member("b", "a", untagged=9), member("a")], "KKK"),
        ([member("s", subject="b"), member("b", untagged=9)], "KD"),
        ([member("t", subject="s", untagged=9), member("s", subject="a"), member("a")], "KKK"),
    ],
)
def test_untagged_manifests(members: list[Member], expected: str) -> None:
    assert fates(state([tag("latest", of="a")], members), WEEK) == expected
    assert fates(state([tag("latest", of="a")], members)) == "K" * len(members)


def test_reasons_of_manifests() -> None:
    members = [
        *(member("a"), member("child", "a"), member("signature", subject="child")),
        *(member("young", untagged=1), member("old", untagged=8)),
    ]
    found = about_manifests(state([tag("latest", of="a")], members), WEEK)
    a, child = Digest.of(b"a"), Digest.of(b"child")
    after = "retention[0].delete_untagged_after"
    assert [one.reason for one in found.values()] == [
        "tagged latest",
        f"{a} names it",
        f"it refers to {child}",
        f"nothing names it since 2030-01-30T00:00; {after} removes it 7d later",
        f"nothing names it since 2030-01-23T00:00: {after}",
    ]


def test_who_names_others_goes_first_and_is_relied_on() -> None:
    chain = ["s", "child", "inner", "outer"]
    members = [
        member("s", subject="child", untagged=9),
        member("child", "inner", untagged=9),
        member("inner", "outer", untagged=9),
        member("outer", untagged=9),
    ]
    gone = list(about_manifests(state([], members), WEEK).values())
    order = [Digest.of(name.encode()) for name in reversed(chain)]
    assert [one.item for one in gone] == order
    assert [one.after for one in gone] == [(), *((one,) for one in order[:-1])]


def test_the_time_without_a_name_is_told_and_forgotten() -> None:
    members = [member("a", untagged=50), member("child", "a", untagged=50), member("b")]
    found = about_manifests(state([tag("latest", of="a")], members), WEEK)
    assert [one.untagged for one in found.values()] == ["", "", stamp(NOW)]
    unruled = about_manifests(state([], [member("b", untagged=3), member("c")]))
    assert [one.untagged for one in unruled.values()] == [stamp(days(3)), ""]


def test_a_manifest_that_was_pulled_by_its_digest_stays() -> None:
    rule = RetentionRule(delete_untagged_after=7 * DAY, keep_pulled_within=3 * DAY)
    members = [member("b", untagged=9), member("c", untagged=9)]
    found = state([], members, pulled={str(Digest.of(b"b")): 2})
    assert fates(found, rule) == "KD"


def test_the_first_rule_about_untagged_manifests_governs_them() -> None:
    elsewhere = RetentionRule(
        repositories=(RepositoryPattern("x"),), delete_untagged_after=timedelta(0)
    )
    tags_only = RetentionRule(keep_newest=1)
    long = RetentionRule(delete_untagged_after=90 * DAY)
    found = state([], [member("b", untagged=9)])
    assert fates(found, elsewhere, tags_only, long, WEEK) == "K"
    assert fates(found, elsewhere, tags_only, WEEK, long) == "D"


def test_at_once_needs_no_second_look() -> None:
    assert fates(state([], [member("b")]), RetentionRule(delete_untagged_after=0 * DAY)) == "D"
