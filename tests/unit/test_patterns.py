from __future__ import annotations

import pytest

from ociappr.names import RepositoryName, Tag
from ociappr.registry.patterns import RepositoryPattern, TagPattern, VersionRange
from ociappr.registry.rules import ImmutableRule, Order, RetentionRule


@pytest.mark.parametrize(
    ("pattern", "meant", "others"),
    [
        ("**", ["a", "a/b/c"], []),
        ("*", ["a", "a-b.c"], ["a/b"]),
        ("ci/*", ["ci/a"], ["ci", "ci/a/b", "cia"]),
        ("ci/**", ["ci/a", "ci/a/b"], ["ci", "other/ci/a"]),
        ("**/cache", ["a/cache", "a/b/cache"], ["cache", "a/caches"]),
        ("a.c/?", ["a.c/x"], ["abc/x", "a.c/xy"]),
    ],
)
def test_repositories(pattern: str, meant: list[str], others: list[str]) -> None:
    found = RepositoryPattern(pattern)
    assert [name for name in meant + others if found.matches(RepositoryName(name))] == meant


@pytest.mark.parametrize(
    ("pattern", "meant", "others"),
    [
        ("*", ["latest", "1.0.0"], []),
        ("v*", ["v1", "v1.0-rc"], ["V1", "1"]),
        ("1.?", ["1.0", "1.x"], ["1.10", "100"]),
        ("/v[0-9]+/", ["v1", "v12"], ["v1a", "av1"]),
    ],
)
def test_tags(pattern: str, meant: list[str], others: list[str]) -> None:
    found = TagPattern(pattern)
    assert [name for name in meant + others if found.matches(Tag(name))] == meant


@pytest.mark.parametrize(
    ("text", "meant", "others"),
    [
        (">=1.2,<2", ["1.2.0", "v1.9.9", "1.2.0_b1"], ["1.1.9", "2.0.0", "1.3.0-rc.1", "latest"]),
        (">=1.2.0-a", ["1.2.0-b", "2.0.0"], ["1.1.0"]),
        ("*", ["0.0.1", "v3.0.0"], ["v", "vv1.0.0", "1.0"]),
    ],
)
def test_versions(text: str, meant: list[str], others: list[str]) -> None:
    found = VersionRange(text)
    assert [name for name in meant + others if found.admits(Tag(name))] == meant


@pytest.mark.parametrize("text", ["", "/", "//", "/x", "/(/"])
def test_patterns_that_cannot_be(text: str) -> None:
    with pytest.raises(ValueError, match=r"pattern|EXPRESSION|expression"):
        TagPattern(text)


def test_patterns_read_as_they_were_written() -> None:
    assert str(RepositoryPattern("ci/**")) == "ci/**"
    assert str(TagPattern("/v[0-9]+/")) == "/v[0-9]+/"
    assert str(VersionRange(">=1.2")) == ">=1.2"
    with pytest.raises(ValueError, match="'x' is no range of versions"):
        VersionRange("x")


def test_a_rule_by_semver_is_about_versions_only() -> None:
    name = RepositoryName("a/b")
    rule = RetentionRule(order=Order.SEMVER, keep_newest=1)
    assert rule.is_about(name, Tag("v1.0.0"))
    assert not rule.is_about(name, Tag("latest"))
    assert RetentionRule(keep_newest=1).is_about(name, Tag("latest"))


def test_rules_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="neither tags nor versions"):
        ImmutableRule()
    with pytest.raises(ValueError, match="1 at least"):
        RetentionRule(keep_newest=0)
