"""Stores that the original server filled with all that was ever recorded of it, imported."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conformance.conftest import Run, Servers
from conformance.legacy.comparing import Json, differences, packages, show
from conformance.legacy.original import Original, original
from conformance.stores.conftest import require

ROOT = Path(__file__).parents[2]
NEEDS = {
    "filesystem": ("appr-server",),
    "redis": ("appr-server", "redis-server"),
    "etcd": ("appr-server", "etcd"),
}
# what this server refuses: docs/appr-api.md
REASONS = ("is not a repository name", "is not a media type", "Invalid version string", "cannot be")

Take = Callable[..., list[Json]]


@pytest.fixture(scope="module", params=list(NEEDS))
def old(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Original]:
    """An original server, on each of its stores, that was sent every recorded change."""
    for name in NEEDS[request.param]:
        require(name)
    with original(request.param, tmp_path_factory.mktemp(request.param)) as server:
        server.fill()
        yield server


@pytest.fixture
def take(run: Run, tmp_path: Path) -> Take:
    """Import into a registry below the test's directory, and return the report."""

    def call(source: str | Path, *flags: str) -> list[Json]:
        command = (sys.executable, "-m", "ociappr", "import", source, "--output", "json")
        done = run(*command, "--data", tmp_path / "data", *flags, cwd=ROOT, fails=True)
        assert done.code == 3, done.stderr
        rows: list[Json] = json.loads(done.stdout)
        return rows

    return call


def test_an_import_answers_as_the_original(
    old: Original, take: Take, start_server: Servers, tmp_path: Path
) -> None:
    rows = take(old.source)
    refused = {row["package"] for row in rows if row["result"] == "refused"}
    for row in rows:
        if row["result"] == "refused":
            assert any(reason in row["reason"] for reason in REASONS), row
    whole = {row["package"] for row in rows} - refused
    assert len(whole) > 120
    new = start_server(data=tmp_path / "data")
    before, after = packages(old.server), packages(new)
    assert after.keys() >= before.keys() - refused
    found = {
        package: list(differences(show(old.server, package, before), show(new, package, after)))
        for package in whole
    }
    assert {package: lines for package, lines in found.items() if lines} == {}


def test_a_second_import_is_in_vain_and_everything_is_whole(
    old: Original, take: Take, run: Run, tmp_path: Path
) -> None:
    dry, first, second = (take(old.source, *flags) for flags in (["--dry-run"], [], []))
    assert {row["result"] for row in dry} == {"to import", "left behind", "refused"}
    for one, again in ((dry, "to import"), (second, "already there")):
        wanted = [row | {"result": again} if row["result"] == "imported" else row for row in first]
        assert one == wanted
    fsck = (sys.executable, "-m", "ociappr", "fsck", "--data", tmp_path / "data")
    assert run(*fsck, cwd=ROOT).stdout == "everything is as it should be\n"


@pytest.mark.parametrize("old", ["filesystem"], indirect=True)
def test_a_dump_of_the_original_is_its_store(
    old: Original, take: Take, run: Run, start_server: Servers, tmp_path: Path
) -> None:
    """A dump holds no times of packages, no emptied ones and no archives beside the releases."""
    old.dump(run, tmp_path / "dump.json")
    rows = take(tmp_path / "dump.json")
    odd = {row["package"] for row in rows if row["result"] == "refused"}
    odd |= {row["package"] for row in rows if row["media_type"] in ("None", "a")}
    new = start_server(data=tmp_path / "data")
    before, after = packages(old.server), packages(new)
    whole = after.keys() - odd
    assert whole == before.keys() - odd
    for package in whole:
        there, here = show(old.server, package, before), show(new, package, after)
        began = min(one["created_at"] for one in there.releases.values())
        assert here.listed["created_at"] == began
        there.listed["created_at"] = began
        assert list(differences(there, here)) == []
    for row in take(old.source):
        if row["package"] in whole:
            assert row["result"] in ("already there", "left behind"), row
