"""What the documents say is so: settings, commands, flags, links, and the commands themselves."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import click
import pytest

from conformance.servers import Servers, clean_environment
from conformance.wire import get_manifest, push_image, tags
from ociappr.cli.main import cli
from ociappr.config import Config, Secret, fields, load
from ociappr.registry.rules import ImmutableRule, RetentionRule

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
COMMANDS = (ROOT / "docs" / "cli.md").read_text()
RETENTION = (ROOT / "docs" / "retention.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
MOVING = (ROOT / "docs" / "moving.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """Return the code of a language that stands in a document."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands() -> dict[str, click.Command]:
    """Return the commands by their names."""
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def flags(command: click.Command) -> set[str]:
    """Return all spellings of the options of a command."""
    options = [one for one in command.params if isinstance(one, click.Option)]
    return {flag for one in options for flag in (*one.opts, *one.secondary_opts)}


# -- settings ------------------------------------------------------------------------------------


def test_every_setting_is_described_with_its_default() -> None:
    rows = dict(
        re.findall(r"^\| `([a-z0-9_.]+)` \| (\S*) \| \S.* \|$", CONFIGURATION, re.MULTILINE)
    )
    assert set(rows) == set(fields())
    for key, shown in rows.items():
        value = attrgetter(key)(Config())
        text = str(getattr(value, "value", value))
        text = text.lower() if isinstance(value, bool) else text
        text = "depends" if value is None else "[]" if value == () else text
        assert shown.strip("`") == (text or "empty"), key


def test_examples_of_configuration_are_read(tmp_path: Path) -> None:
    examples = blocks(CONFIGURATION, "yaml")
    assert examples
    for example in examples:
        (tmp_path / "conf.yaml").write_text(example)
        assert load(file=tmp_path / "conf.yaml").origins


def test_rules_of_retention_are_described_and_their_examples_are_read(tmp_path: Path) -> None:
    described = set(re.findall(r"^\| `([a-z_]+)` \|", RETENTION, re.MULTILINE))
    assert described == {*fields(RetentionRule), *fields(ImmutableRule)}
    examples = blocks(RETENTION, "yaml")
    assert len(examples) == 2
    for example in examples:
        (tmp_path / "conf.yaml").write_text(example)
        config = load(file=tmp_path / "conf.yaml").config
        assert config.retention or config.immutable
    (line,) = re.findall(r"^OCIAPPR_RETENTION='(.*)'$", RETENTION, re.MULTILINE)
    assert load(environ={"OCIAPPR_RETENTION": line}).config.retention


def test_variables_in_documents_are_settings() -> None:
    keys = [*fields(), *(f"{key}_file" for key, kind in fields().items() if kind is Secret)]
    known = {f"OCIAPPR_{key.upper().replace('.', '__')}" for key in keys}
    for path in DOCUMENTS:
        named = set(re.findall(r"OCIAPPR_[A-Z0-9_]+", path.read_text()))
        assert named <= known | {"OCIAPPR_TOOLS", "OCIAPPR_SERVER"}, path


def test_keys_in_documents_are_settings() -> None:
    sections = {key.partition(".")[0] for key in fields()} - {"data"}
    for path in [*ROOT.glob("docs/*.md"), ROOT / "README.md"]:
        for key in re.findall(r"`([a-z]+\.(?!db`)[a-z]+)`", path.read_text()):
            assert key.partition(".")[0] not in sections or key in fields(), f"{path}: {key}"


# -- commands ------------------------------------------------------------------------------------


def test_every_command_and_flag_is_described() -> None:
    described = set(re.findall(r"^\| `ociappr ([a-z]+)(?: [A-Z]+)?` \|", COMMANDS, re.MULTILINE))
    assert described == set(commands())
    rows = re.findall(r"^\| (`-[^|]*) \|", COMMANDS, re.MULTILINE)
    named = {flag for row in rows for flag in re.findall(r"--?[a-z-]+", row)}
    assert named == set().union(*map(flags, commands().values()))


def test_flags_are_described_with_their_commands() -> None:
    parts = re.split(
        r"^(All commands.*|`[a-z`, ]*(?: and `[a-z]+`)?:)$", COMMANDS, flags=re.MULTILINE
    )
    listed = {
        head: set(re.findall(r"^\| (?:`-v`, )?`(--[a-z-]+)", text, re.MULTILINE))
        for head, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    shared = next(flags for head, flags in listed.items() if head.startswith("All"))
    for name, command in commands().items():
        expected = {"version": set(), "migrate": {"--verbose"}}.get(name, shared)
        for head, own in listed.items():
            expected = expected | own if f"`{name}`" in head and own is not shared else expected
        assert {flag for flag in flags(command) if flag.startswith("--")} == expected, name


def test_commands_in_documents_exist() -> None:
    for path in DOCUMENTS:
        for block in blocks(path.read_text(), "sh"):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["ociappr"]:
                    command = commands()[words[1]]
                    used = {word for word in words[2:] if word.startswith("-")}
                    assert used <= flags(command), f"{path}: {line}"
        for name in re.findall(r"`ociappr ([a-z]+)", path.read_text()):
            assert name in commands(), f"{path}: ociappr {name}"


def test_targets_of_make_in_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        text = path.read_text()
        named = set(re.findall(r"`make ([a-z-]+)", text))
        named |= {n for block in blocks(text, "sh") for n in re.findall(r"^make ([a-z-]+)", block)}
        assert named <= targets, path


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+://", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), f"{path.name}: {target}"
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE) if anchor else []
        anchors = {re.sub(r"[^a-z0-9 -]", "", one.lower()).replace(" ", "-") for one in headings}
        assert not anchor or anchor in anchors, f"{path.name}: {target}"


# -- operations ----------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path) -> Path:
    """A directory with the program in it, to run documented commands in."""
    program = tmp_path / "ociappr"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ociappr "$@"\n')
    program.chmod(0o755)
    return tmp_path


def run(script: str, directory: Path) -> str:
    """Run a documented script."""
    path = f"{directory}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = clean_environment() | {"PATH": path, "PYTHONPATH": str(ROOT)}
    command = ["sh", "-euc", script]
    return subprocess.run(
        command, cwd=directory, env=environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.slow
def test_a_backup_of_a_running_server_is_whole(shell: Path) -> None:
    backup, restore, collect, check = blocks(OPERATIONS, "sh")
    servers = Servers(shell)
    try:
        server = servers(data=shell / "data")
        digest = push_image(server, "a/b", "1.0.0", [b"layer" * 10_000])
        run(backup, shell)
        fine = "everything is as it should be\n"
        assert run(restore, shell).endswith(fine)
        push_image(server, "a/b", "2.0.0", [b"later" * 10_000])
        assert "freed" in run(collect, shell)
        assert run(check, shell) == fine
        servers.kill(server)
        restored = servers(data=shell / "backup")
        assert get_manifest(restored, "a/b", "1.0.0")[2] == digest
    finally:
        servers.stop_all()


@pytest.mark.slow
def test_a_registry_is_thinned_as_documented(shell: Path) -> None:
    """The commands and the rules of the page on retention, and what they say they do."""
    preview, why, collect = blocks(RETENTION, "sh")
    (shell / "registry.yaml").write_text(blocks(RETENTION, "yaml")[0])
    servers = Servers(shell)
    try:
        server = servers(data=shell / "data")
        for number in range(12):
            push_image(server, "ci/app", f"pr-{number}", [f"{number}".encode()])
            push_image(server, "team/app", f"1.{number}.0", [f"{number}".encode()])
        push_image(server, "team/app", "latest", [b"0"])
        assert "2 would go now" in run(preview, shell)
        assert "one of the 10 newest by version" in run(why, shell)
        assert "no tag reaches 1 manifests" in run(collect, shell)
        found = tags(server, "team/app")
        assert set(found) == {"latest", *(f"1.{number}.0" for number in range(2, 12))}
    finally:
        servers.stop_all()


def test_moving_house(shell: Path) -> None:
    """Copied beside its running server, then copied again; then the metadata are lost."""
    migrate, restore, elsewhere = blocks(MOVING, "sh")
    servers = Servers(shell)
    try:
        server = servers(data=shell / "data")
        first = push_image(server, "a/b", "1.0.0", [b"layer" * 10_000])
        verified = "the target is the same registry, and verified\n"
        assert run(migrate, shell).endswith(verified)
        second = push_image(server, "a/b", "2.0.0", [b"later" * 10_000])
        run(elsewhere.splitlines()[0], shell)
        run("ociappr backup --data data", shell)
        servers.stop(server)
        assert run(migrate, shell).endswith(verified)
        for path in (shell / "data").glob("metadata.db*"):
            path.unlink()
        assert run(elsewhere.splitlines()[1], shell).startswith("snapshot ")
        assert run(restore, shell).endswith("everything in the snapshot is there\n")
        for data in ("data", "moved"):
            there = servers(data=shell / data)
            assert get_manifest(there, "a/b", "1.0.0")[2] == first
            assert get_manifest(there, "a/b", "2.0.0")[2] == second
    finally:
        servers.stop_all()
