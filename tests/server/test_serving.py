from __future__ import annotations

import base64
import gzip
import io
import json
import re
import socket
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from conformance.servers import Servers, clean_environment
from conformance.wire import (
    digest_of,
    expect,
    fetch,
    get_blob,
    get_manifest,
    push_blob,
    push_image,
    tags,
)
from tests.server.conftest import eventually, serve


def test_both_doors_serve_and_a_kill_loses_nothing(servers: Servers) -> None:
    server = servers()
    digest = push_image(server, "tour/hello", "1.0.0", [b"layer"])
    push = {"release": "2.0.0", "media_type": "helm", "blob": archive()}
    expect(
        fetch(server, "POST", "/api/v1/packages/tour/hello", body=json.dumps(push).encode()), 200
    )
    servers.kill(server)
    again = servers(data=server.data)
    assert get_manifest(again, "tour/hello", "1.0.0")[2] == digest
    assert get_blob(again, "tour/hello", digest_of(b"layer")) == b"layer"
    assert tags(again, "tour/hello") == ["1.0.0", "2.0.0"]
    shown = expect(fetch(again, "GET", "/api/v1/packages/tour/hello/2.0.0/helm"), 200).json()
    assert isinstance(shown, dict)
    assert shown["release"] == "2.0.0"


def archive() -> str:
    """Return a small tar.gz in base64."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("hello/README.md"))
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.slow
def test_what_it_says_of_itself(servers: Servers) -> None:
    server = servers()
    for path in ("/livez", "/readyz", "/metrics", "/v2/", "/v2/no/such/manifests/x", "/version"):
        assert fetch(server, "GET", path).headers["Server"] == "ociappr"
    assert fetch(server, "GET", "/livez").body == b"live\n"
    assert fetch(server, "HEAD", "/readyz").status == 200


@pytest.mark.slow
def test_bytes_are_stored_as_they_come(servers: Servers) -> None:
    """A client's Content-Encoding is its own affair: digests are of the bytes on the wire."""
    server = servers()
    body = gzip.compress(b"x" * 100_000)
    path = f"/v2/a/b/blobs/uploads/?digest={digest_of(body)}"
    expect(fetch(server, "POST", path, headers={"Content-Encoding": "gzip"}, body=body), 201)
    assert get_blob(server, "a/b", digest_of(body)) == body


@pytest.mark.slow
def test_port_zero_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "ociappr", "serve", "--listen", "127.0.0.1:0"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--data", str(tmp_path / "data")], stderr=output, env=clean_environment()
        )
    try:
        told = re.compile(r"listens on http://127\.0\.0\.1:([1-9][0-9]*)")
        eventually(lambda: told.search(log.read_text()) is not None, "the address is told")
        found = told.search(log.read_text())
        assert found
        socket.create_connection(("127.0.0.1", int(found[1]))).close()
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.slow
def test_it_takes_all_the_files_that_it_may_have(tmp_path: Path) -> None:
    """Shells give a program a soft limit of 1024 or less: not enough connections."""
    command = [sys.executable, "-m", "ociappr", "serve", "--listen", "127.0.0.1:0"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                "/bin/sh",
                "-c",
                'ulimit -S -n 99 && exec "$@"',
                "sh",
                *command,
                "--data",
                tmp_path / "d",
            ],
            stderr=output,
            env=clean_environment(),
        )
    try:
        eventually(lambda: "listens on" in log.read_text(), "it has begun")
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        found = re.search(r"^Max open files +([0-9]+) +([0-9]+)", limits, re.MULTILINE)
        assert found
        assert found[1] == found[2] != "99"
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
class TestWhatCannotStart:
    def test_a_port_in_use(self, tmp_path: Path, workers: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            listen = f"127.0.0.1:{other.getsockname()[1]}"
            ended = serve(
                "--listen", listen, "--workers", workers, "--data", str(tmp_path / "data")
            )
        assert ended.returncode == 1
        assert ended.stderr == (
            f"ociappr: cannot listen on {listen}: Address already in use; stop what uses the"
            " address, or choose another with --listen\n"
        )

    def test_a_host_that_is_not_ours(self, workers: str) -> None:
        ended = serve("--listen", "no-such-host.invalid:0", "--workers", workers)
        assert ended.returncode == 1
        assert ended.stderr.startswith("ociappr: cannot listen on no-such-host.invalid:0: ")
        assert ended.stderr.count("\n") == 1

    def test_data_that_cannot_be_written(self, tmp_path: Path, workers: str) -> None:
        (tmp_path / "file").write_text("in the way")
        data = str(tmp_path / "file" / "data")
        ended = serve("--listen", "127.0.0.1:0", "--workers", workers, "--data", data)
        assert ended.returncode == 1
        assert ended.stderr == (
            f"ociappr: cannot make {data}: Not a directory; choose another directory with --data,"
            " or let this one be written\n"
        )

    def test_metadata_of_a_newer_release(self, tmp_path: Path, workers: str) -> None:
        with sqlite3.connect(tmp_path / "metadata.db") as database:
            database.execute("PRAGMA user_version = 999")
        database.close()
        ended = serve("--listen", "127.0.0.1:0", "--workers", workers, "--data", str(tmp_path))
        assert ended.returncode == 1
        assert re.fullmatch(
            r"ociappr: metadata at \S+ has schema 999, this release knows 1; run the release that"
            r" wrote it, or a newer one\n",
            ended.stderr,
        )

    def test_a_setting_that_does_not_exist(self, tmp_path: Path, workers: str) -> None:
        (tmp_path / "conf.yaml").write_text("server: {lisen: x}")
        ended = serve("--config", str(tmp_path / "conf.yaml"), "--workers", workers)
        assert ended.returncode == 2
        assert "did you mean server.listen?" in ended.stderr


@pytest.mark.slow
def test_a_store_of_metadata_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "metadata.db").write_bytes(b"no database " * 1000)
    ended = serve("--listen", "127.0.0.1:0", "--data", str(tmp_path))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"ociappr: cannot open metadata at {tmp_path}/metadata.db: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.slow
def test_blobs_are_not_lost_with_the_process_that_wrote_them(servers: Servers) -> None:
    server = servers()
    content = bytes(range(256)) * 1024
    digest = push_blob(server, "a/b", content)
    servers.kill(server)
    assert get_blob(servers(data=server.data), "a/b", digest) == content
