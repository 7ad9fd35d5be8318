from __future__ import annotations

import asyncio
import io
import json
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from ociappr import __version__
from ociappr.blobstore.filesystem import FilesystemBlobs
from ociappr.blobstore.memory import MemoryBlobs
from ociappr.cli import gc
from ociappr.cli.main import cli, main
from ociappr.config import fields
from ociappr.descriptor import EMPTY_BYTES
from ociappr.digest import Digest
from ociappr.media import OCI_MANIFEST
from ociappr.metadata.sqlite import SQLiteMetadata
from ociappr.names import Reference, RepositoryName, Tag
from ociappr.registry import Registry, Settings
from tests.http.client import image

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty directory, with nothing of ours in the environment."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, **environ: str) -> Result:
        return CliRunner().invoke(cli, list(arguments), env=environ)

    return call


def test_version(run: Run) -> None:
    result = run("version")
    assert (result.exit_code, result.stdout) == (0, f"ociappr {__version__}\n")


def test_version_starts_fast() -> None:
    """What it imports is what it costs: the drivers, the doors and aiohttp stay out."""
    code = "import sys; from ociappr.cli import main, version; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "click" in modules
    assert not {"aiohttp", "asyncio", "yaml", "msgspec", "ociappr.registry"} & set(modules)


@pytest.mark.slow
def test_version_answers_within_a_quarter_of_a_second() -> None:
    command = [sys.executable, "-m", "ociappr", "version"]
    durations = []
    for _ in range(5):
        begun = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        durations.append(time.monotonic() - begun)
    assert min(durations) < 0.25


@pytest.mark.parametrize(
    "command",
    ["", "serve", "config", "gc", "fsck", "backup", "restore", "migrate", "import", "version"],
)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_helps(run: Run, command: str, flag: str) -> None:
    result = run(*command.split(), flag)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")


def test_config_shows_every_setting_in_three_forms(run: Run) -> None:
    environ = {"OCIAPPR_LOG__LEVEL": "error"}
    as_json = json.loads(run("config", "--output", "json", "--data", "/d", **environ).stdout)
    as_yaml = yaml.safe_load(run("config", "--output", "yaml", "--data", "/d", **environ).stdout)
    assert as_json == as_yaml
    assert [row["setting"] for row in as_json] == list(fields())
    rows = {row["setting"]: (row["value"], row["origin"]) for row in as_json}
    assert rows["data"] == ("/d", "command line")
    assert rows["log.level"] == ("error", "environment")
    assert rows["server.workers"] == (1, "default")
    assert rows["manifests.sparse"] == ("indexes", "default")
    assert rows["manifests.limit"] == ("4MiB", "default")
    assert rows["collector.grace"] == ("1d", "default")
    text = run("config", "--data", "/d", **environ).stdout.splitlines()
    assert len(text) == len(fields()) + 1
    assert ["data", "/d", "command line"] in [line.split(maxsplit=2) for line in text]


def test_what_config_shows_can_be_a_file(run: Run, tmp_path: Path) -> None:
    shown = json.loads(run("config", "--output", "json").stdout)
    document: dict[str, Any] = {}
    for row in shown:
        *sections, name = row["setting"].split(".")
        place = document
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = row["value"]
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(document))
    again = json.loads(run("config", "--output", "json", "--config", "conf.yaml").stdout)
    assert [row["value"] for row in again] == [row["value"] for row in shown]
    assert {row["origin"] for row in again} == {"conf.yaml"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("config", "--config", "none.yaml"), "cannot read none.yaml: No such file or directory"),
        (("gc", "--metadata", "oracle:///x"), "metadata.url: 'oracle:///x' begins with none of"),
        (("serve", "--workers", "0"), "server.workers: '0' cannot be; it is 1 to"),
        (("serve", "--workers", "two"), "server.workers: 'two' is not a whole number"),
        (("serve", "--listen", "here"), "server.listen: 'here' does not read HOST:PORT"),
        (("serve", "--log-level", "loud"), "log.level: 'loud' is not debug, info, warning, error"),
    ],
)
def test_settings_that_cannot_be(run: Run, arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"ociappr: {message}")
    assert result.stderr.count("\n") == 1
    assert not result.stdout


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_errors_take_the_form_too(run: Run, form: str) -> None:
    result = run("gc", "--data", "", "--output", form)
    told = yaml.safe_load(result.stderr)  # JSON is YAML
    assert told == {"error": "data: '' cannot be; it names a directory"}
    assert result.exit_code == 2


def test_the_chain_is_shown_when_asked_for(run: Run, tmp_path: Path) -> None:
    for name in ("blobs", "metadata.db"):
        (tmp_path / "data" / name).mkdir(parents=True)
    brief, full = run("gc"), run("gc", "-v")
    assert brief.exit_code == full.exit_code == 1
    assert brief.stderr.startswith(f"ociappr: cannot open metadata at {tmp_path}/data/metadata.db:")
    assert full.stderr.startswith(brief.stderr)
    assert "IsADirectoryError" in full.stderr


@pytest.mark.parametrize("command", ["gc", "fsck", "backup", "restore"])
def test_looking_for_a_registry_makes_none(run: Run, tmp_path: Path, command: str) -> None:
    result = run(command, "--data", "typo")
    assert result.exit_code == 1
    assert "there is no registry" in result.stderr
    assert not (tmp_path / "typo").exists()


def test_a_newer_schema_is_refused(run: Run, tmp_path: Path) -> None:
    asyncio.run(store(tmp_path / "data", b"bytes"))
    with sqlite3.connect(tmp_path / "data" / "metadata.db") as database:
        database.execute("PRAGMA user_version = 999")
    database.close()
    result = run("gc")
    assert result.exit_code == 1
    assert "has schema 999, this release knows 1; run the release that wrote it" in result.stderr


@pytest.mark.parametrize("arguments", [["frobnicate"], ["gc", "--frobnicate"], ["gc", "extra"]])
def test_usage_errors(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["ociappr", *arguments])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 2


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ociappr.cli.config.loaded", interrupt)
    monkeypatch.setattr(sys, "argv", ["ociappr", "config"])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 130


def test_a_bug_of_ours_is_no_one_liner(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ociappr.cli.config.loaded", broken)
    assert isinstance(run("config").exception, ZeroDivisionError)


def test_gc_tells_what_it_did(run: Run, tmp_path: Path) -> None:
    asyncio.run(store(tmp_path / "data", b"bytes"))
    rows = json.loads(run("gc", "--output", "json").stdout)
    assert {row["what"]: row["number"] for row in rows}["freed"] == 0


def test_gc_follows_rules_and_says_what_frees_more(run: Run, tmp_path: Path) -> None:
    digests = asyncio.run(push_images(tmp_path / "data", ["1", "2", "3"]))
    rules = {"OCIAPPR_RETENTION": json.dumps([{"keep_newest": 1}])}
    preview = json.loads(run("gc", "--dry-run", "--output", "json", **rules).stdout)
    reason = "retention[0] is about it and keeps others"
    assert preview == [
        {"item": f"a/b:{tag}", "fate": "deleted", "reason": reason} for tag in ("1", "2")
    ]
    assert "2 would go now; nothing was changed" in run("gc", "--dry-run", **rules).stdout
    text = run("gc", **rules).stdout
    assert re.search(r"^tags +2 ", text, re.MULTILINE)
    assert "no tag reaches 2 manifests, which alone hold" in text
    assert "delete_untagged_after frees that" in text
    rows = json.loads(run("gc", "--output", "json", **rules).stdout)
    figures = {row["what"]: row["number"] for row in rows}
    assert (figures["tags"], figures["untagged"]) == (0, 2)
    why = json.loads(run("gc", "--why", "a/b", "--output", "json", **rules).stdout)
    assert {row["item"] for row in why} == {"a/b:3", *(f"a/b@{digest}" for digest in digests)}
    assert "one of the 1 newest" in run("gc", "--why", "a/b:3", **rules).stdout
    assert "tagged 3" in run("gc", "--why", f"a/b@{digests[2]}", **rules).stdout
    rules = {"OCIAPPR_RETENTION": json.dumps([{"delete_untagged_after": "0s"}])}
    assert re.search(r"^manifests +2 ", run("gc", **rules).stdout, re.MULTILINE)
    assert "frees that" not in run("gc", **rules).stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--why", "a/b", "--dry-run"], 2, "ask one at a time"),
        (["--why", "A/b"], 1, "is not a repository name"),
        (["--why", "a/b:?"], 1, "is not a tag"),
        (["--why", "a/b@x"], 1, "digest"),
        (["--why", "a/c"], 1, "there is no repository a/c"),
        (["--why", "a/b:x"], 1, "a/b has no tag x"),
    ],
)
def test_what_gc_cannot_answer(
    run: Run, tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    asyncio.run(push_images(tmp_path / "data", ["1"]))
    result = run("gc", *arguments)
    assert result.exit_code == status
    assert message in result.stderr


async def push_images(data: Path, tags: list[str]) -> list[Digest]:
    """Push an image under each tag into ``a/b`` of a registry below *data*, made for it."""
    data.mkdir()
    (data / "blobs").mkdir()
    metadata = await SQLiteMetadata.open(data / "metadata.db")
    registry = await Registry.open(metadata, MemoryBlobs())
    repository, digests = RepositoryName("a/b"), []

    async def blocks() -> AsyncIterator[bytes]:
        yield EMPTY_BYTES

    await registry.uploads.put(repository, Digest.of(EMPTY_BYTES), blocks())
    for tag in tags:
        reference = Reference(repository, Tag(tag))
        raw = image(annotations={"tag": tag})
        digests.append((await registry.manifests.put(reference, OCI_MANIFEST, raw)).digest)
    await metadata.close()
    return digests


async def store(data: Path, content: bytes) -> None:
    """Put a blob, as a file, into a registry below *data*, made for it."""
    data.mkdir()
    metadata = await SQLiteMetadata.open(data / "metadata.db")
    blobs = await FilesystemBlobs.open(data / "blobs")
    registry = await Registry.open(metadata, blobs, Settings(inline_limit=0))

    async def blocks() -> AsyncIterator[bytes]:
        yield content

    await registry.uploads.put(RepositoryName("a/b"), Digest.of(content), blocks())
    await blobs.close()
    await metadata.close()


def test_fsck_finds_what_is_damaged(run: Run, tmp_path: Path) -> None:
    content = b"bytes of a blob"
    asyncio.run(store(tmp_path / "data", content))
    assert run("fsck").stdout == "everything is as it should be\n"
    assert json.loads(run("fsck", "--output", "json").stdout) == []
    (file,) = [path for path in (tmp_path / "data" / "blobs").rglob("*") if path.is_file()]
    file.write_bytes(content.upper())
    result = run("fsck", "--output", "json")
    assert result.exit_code == 1
    (found,) = json.loads(result.stdout)
    what = "the bytes of a blob are damaged"
    about = str(Digest.of(content))
    assert found == {
        "code": "blob-damaged",
        "what": what,
        "about": about,
        "breaks": [],
        "repaired": False,
    }
    repaired = run("fsck", "--repair")
    assert repaired.exit_code == 1
    assert "it was set aside: push it again" in repaired.stdout
    assert run("fsck").exit_code == 0  # no manifest needs it


def test_a_backup_is_restored(run: Run, tmp_path: Path) -> None:
    asyncio.run(store(tmp_path / "data", b"bytes of a blob"))
    (backed,) = json.loads(run("backup", "--output", "json").stdout)
    assert backed["entries"] > 0
    assert json.loads(run("restore", "--list", "--output", "json").stdout) == [
        {"snapshot": backed["snapshot"], "size": backed["size"]}
    ]
    refused = run("restore")
    assert refused.exit_code == 1
    assert "the metadata hold a registry already" in refused.stderr
    for path in (tmp_path / "data").glob("metadata.db*"):
        path.unlink()
    result = run("restore", "--output", "json")
    assert result.exit_code == 0
    assert [row["code"] for row in json.loads(result.stdout)] == ["restored"]
    assert run("fsck").stdout == "everything is as it should be\n"


def test_a_backup_may_lie_elsewhere(run: Run, tmp_path: Path) -> None:
    asyncio.run(store(tmp_path / "data", b"bytes of a blob"))
    assert run("backup", "--to", "elsewhere").exit_code == 0
    assert run("restore", "--list").stdout == ""
    for path in (tmp_path / "data").glob("metadata.db*"):
        path.unlink()
    (file,) = (path for path in (tmp_path / "data/blobs/blobs").rglob("*") if path.is_file())
    file.unlink()
    assert "no snapshot can be restored: there is none" in run("restore").stderr
    assert run("restore", "--from", (tmp_path / "elsewhere").as_uri()).exit_code == 0


def test_a_registry_is_copied(run: Run, tmp_path: Path) -> None:
    asyncio.run(store(tmp_path / "data", b"bytes of a blob"))
    (tmp_path / "conf.yaml").write_text("data: other\n")
    result = run("migrate", "--from", "data", "--to", "conf.yaml")
    assert result.exit_code == 0
    assert result.stdout.endswith("the target is the same registry, and verified\n")
    assert "pass 1, blobs: " in result.stderr
    quiet = run("migrate", "--from", "data", "--to", "conf.yaml", "--output", "json")
    assert ([row["code"] for row in json.loads(quiet.stdout)], quiet.stderr) == (["migrated"], "")
    assert run("fsck", "--data", "other").exit_code == 0
    again = run("migrate", "--from", "data", "--to", "conf.yaml")
    assert again.exit_code == 1
    assert "the metadata hold a registry already" in again.stderr
    same = run("migrate", "--from", "data", "--to", "data")
    assert (same.exit_code, "source and target are the same" in same.stderr) == (2, True)


class Terminal(io.StringIO):
    """Standard error of somebody who looks at it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = asyncio.Event()

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        self.written.set()


async def test_gc_tells_on_a_terminal_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(gc, "_TELL_EVERY", 0.001)
    async with gc._progress(lambda: {"tags": 3, "manifests": 0, "condemned": 5}):
        await terminal.written.wait()
    told = terminal.getvalue().splitlines()
    assert set(told) == {"ociappr: so far: tags 3, condemned 5"}


@pytest.mark.parametrize("url", ["redis://{}", "etcd://{}/p", "postgresql://u@{}/d"])
def test_a_metadata_server_that_is_not_there(run: Run, url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
    result = run("gc", "--metadata", url.format(host), "--storage", "memory://")
    assert result.exit_code == 1
    assert host in result.stderr
    assert "see that the server runs" in result.stderr


@pytest.mark.parametrize("flag", ["--from", "--to"])
def test_migrate_takes_no_url_for_a_directory(run: Run, tmp_path: Path, flag: str) -> None:
    sides = {"--from": "data", "--to": "other"} | {flag: "postgresql://u@host/registry"}
    result = run("migrate", *(word for side in sides.items() for word in side))
    assert result.exit_code == 2
    assert "name a YAML file" in result.stderr
    assert not (tmp_path / "postgresql:").exists()
