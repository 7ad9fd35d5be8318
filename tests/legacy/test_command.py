"""``ociappr import``: what it prints, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from ociappr.cli.main import cli
from ociappr.config import load
from ociappr.server import open_registry
from tests.http.appr import tgz
from tests.legacy.old import Old

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``ociappr import`` in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["import", *arguments])

    return call


async def packages(data: Path) -> int:
    async with open_registry(load(flags={"data": str(data)}).config) as registry:
        return len(await registry.packages.list(readable=lambda _: True))


def test_it_makes_a_registry_and_tells_of_each_item(run: Run, old: Old, tmp_path: Path) -> None:
    old.write(tmp_path / "old")
    first = run("old", "--data", "new")
    assert first.exit_code == 0
    assert first.stdout.splitlines() == [
        "imported      shop/api 2.0.0-rc1 docker-compose",
        "imported      shop/web 1.0.0 helm",
        "imported      shop/web 1.0.0 kpm",
        "imported      shop/web 1.1.0+b1 helm",
        "imported      shop/web channel stable",
        "5 imported",
    ]
    assert run("old", "--data", "new").stdout.splitlines()[-1] == "5 already there"
    assert asyncio.run(packages(tmp_path / "new")) == 2


def test_a_dry_run_makes_nothing(run: Run, old: Old, tmp_path: Path) -> None:
    old.write(tmp_path / "old")
    dry = run("old", "--data", "new", "--dry-run")
    assert (dry.exit_code, dry.stdout.splitlines()[-1]) == (0, "5 to import")
    assert not (tmp_path / "new").exists()
    run("old", "--data", "new")
    old.push("shop/new", "1.0.0", tgz({"a": b"b"}))
    old.write(tmp_path / "old")
    dry = run("old", "--data", "new", "--dry-run")
    assert dry.stdout.splitlines()[-1] == "1 to import, 5 already there"
    assert asyncio.run(packages(tmp_path / "new")) == 2


def test_what_was_refused_makes_it_partly_done(run: Run, old: Old, tmp_path: Path) -> None:
    old.push("Shop/Web", "1.0.0", tgz({"a": b"b"}))
    old.write(tmp_path / "old")
    result = run("old", "--output", "json")
    assert result.exit_code == 3
    first, *rest = json.loads(result.stdout)
    assert first == {
        "package": "Shop/Web",
        "release": "",
        "media_type": "",
        "channel": "",
        "archive": "",
        "result": "refused",
        "reason": "'Shop/Web' is not a repository name; lower-case letters and digits,"
        " parted by . _ __ - or /, 255 at most",
    }
    assert {row["result"] for row in rest} == {"imported"}
    again = yaml.safe_load(run("old", "--output", "yaml").stdout)
    assert [row["result"] for row in again] == ["refused", *["already there"] * 5]


def test_it_ends_with_the_reason_when_there_is_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    result = run("old")
    assert result.exit_code == 1
    assert "there is no appr store at old: no packages.json below" in result.stderr
    assert not (tmp_path / "data").exists()


def test_an_empty_store_is_no_error(run: Run, tmp_path: Path) -> None:
    Old().write(tmp_path / "old")
    result = run("old")
    assert (result.exit_code, result.stdout) == (0, "there is nothing\n")


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "etcd://127.0.0.1:1"])
def test_a_server_that_does_not_answer(run: Run, url: str) -> None:
    result = run(url)
    assert result.exit_code == 1
    assert "does not answer" in result.stderr
    assert "look whether it runs" in result.stderr


def test_a_place_of_another_kind_is_usage(run: Run) -> None:
    result = run("ftp://host/")
    assert result.exit_code == 2
    assert "'ftp://host/' is no path, and begins with none of file://" in result.stderr


@pytest.mark.parametrize("url", ["redis://:secret@[::1", "etcd://", "etcd://host/path", "etcd://["])
def test_an_address_that_is_none_is_usage(run: Run, url: str) -> None:
    result = run(url)
    assert result.exit_code == 2
    assert "is no address" in result.stderr
    assert "secret" not in result.stderr


def test_without_the_library_it_names_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ociappr.legacy.redis", None)
    result = run("redis://127.0.0.1:1")
    assert result.exit_code == 2
    assert "pip install ociappr[redis]" in result.stderr


def test_programs_are_told_that_it_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ociappr.cli.import_._STEP", 2)
    store = Old()
    for number in range(5):
        store.push("shop/web", f"1.0.{number}", tgz({"a": b"b"}))
    store.write(tmp_path / "old")
    result = run("old", "--output", "json")
    assert result.stderr.splitlines() == [
        "ociappr: 2 items so far",
        "ociappr: 4 items so far",
    ]
