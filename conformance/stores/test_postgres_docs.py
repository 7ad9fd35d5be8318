"""The commands of docs/stores/postgresql.md, run as they stand there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from conformance.backends.postgres import PostgreSQL
from conformance.servers import clean_environment, free_port, wait_ready
from conformance.wire import Server, get_manifest, push_image, tags

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "stores" / "postgresql.md").read_text()
SET_UP, START, DUMP, RESTORE, WAITING, DEAD = re.findall(
    r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE
)


@pytest.fixture
def environment(postgres_server: PostgreSQL, tmp_path: Path) -> Mapping[str, str]:
    """Where the documented commands run: with our program, as a superuser of the server."""
    program = tmp_path / "ociappr"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ociappr "$@"\n')
    program.chmod(0o755)
    return clean_environment() | {
        "PATH": f"{tmp_path}:{postgres_server.binaries}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres_server.port),
        "PGUSER": "postgres",
        "OCIAPPR_SERVER__LISTEN": f"127.0.0.1:{free_port()}",
        "OCIAPPR_DATA": str(tmp_path / "data"),
    }


@contextmanager
def serving(script: str, directory: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    """Have the server run within the block that a script starts with its last command."""
    host = environment["OCIAPPR_SERVER__LISTEN"]
    server = Server(host, f"http://{host}", directory / "data")
    command = ["sh", "-euc", script.replace("\nociappr serve", "\nexec ociappr serve")]
    with (
        (directory / "log").open("ab") as log,
        subprocess.Popen(command, cwd=directory, env=environment, stderr=log) as process,
    ):
        try:
            wait_ready(server, "/readyz", process=process, log=directory / "log")
            yield server
        finally:
            process.send_signal(signal.SIGTERM)


def test_the_commands(
    postgres_server: PostgreSQL, environment: Mapping[str, str], tmp_path: Path
) -> None:
    def run(script: str) -> str:
        command = ["sh", "-euc", script]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    start = START.replace("db.example:5432", postgres_server.address)
    run(SET_UP)
    with serving(start, tmp_path, environment) as server:
        digest = push_image(server, "a/b", "1.0.0", [b"layer" * 10_000])
        run(DUMP)
        assert re.search(r"^ idle +\|", run(WAITING), re.MULTILINE)
        assert " kB" in run(DEAD)
        push_image(server, "a/b", "2.0.0", [b"later" * 10_000])
    run(RESTORE)
    restored = start.replace(
        f"{postgres_server.address}/ociappr", f"{postgres_server.address}/restored"
    )
    with serving(restored, tmp_path, environment) as server:
        assert get_manifest(server, "a/b", "1.0.0")[2] == digest
        assert tags(server, "a/b") == ["1.0.0"]
        push_image(server, "a/b", "1.0.0", [b"moved" * 10_000])
    assert (tmp_path / "metadata-password").stat().st_mode & 0o777 == 0o600
