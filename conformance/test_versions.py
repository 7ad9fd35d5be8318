"""Replicas of neighbouring releases run side by side over the same stores."""

from __future__ import annotations

import contextlib
import io
import sqlite3
import subprocess
import tarfile
from pathlib import Path

import pytest

from conformance.servers import Servers
from conformance.wire import (
    Server,
    digest_of,
    expect,
    fetch,
    get_blob,
    get_manifest,
    push_image,
    tags,
)
from ociappr.registry.schema import SCHEMA_KEY

ROOT = Path(__file__).parents[1]
BEFORE = "9b3f58660b9ce40a87a5f6e267517bbc7c4965a8"
"""The last commit before metadata carried a schema."""


@pytest.fixture
def older(start_server: Servers, tmp_path: Path) -> Server:
    """A server of the older code; a visible skip where its history is not there."""
    made = subprocess.run(["git", "archive", BEFORE, "ociappr"], cwd=ROOT, capture_output=True)  # noqa: PLW1510 - a shallow clone has no such commit
    if made.returncode:
        pytest.skip(f"no commit {BEFORE[:7]} here: {made.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        archive.extractall(tmp_path / "code", filter="data")
    env = {"PYTHONPATH": str(tmp_path / "code"), "PYTHONSAFEPATH": "1"}
    return start_server(data=tmp_path / "data", env=env)


def test_side_by_side(start_server: Servers, older: Server) -> None:
    push_image(older, "a/b", "before", [b"before" * 9_000])
    assert not _has_schema(older.data)
    newer = start_server(data=older.data)
    assert _has_schema(older.data)
    for one, other, tag in ((older, newer, "old"), (newer, older, "new")):
        digest = push_image(one, "a/b", tag, [tag.encode() * 9_000])
        assert get_manifest(other, "a/b", tag)[2] == digest
        assert get_blob(other, "a/b", digest_of(tag.encode() * 9_000))
        _upload_in_turns(one, other)
    assert tags(newer, "a/b") == tags(older, "a/b") == ["before", "new", "old"]
    start_server.stop(newer)
    start_server.stop(older)
    again = start_server(data=older.data)
    assert tags(again, "a/b") == ["before", "new", "old"]


def _has_schema(data: Path) -> bool:
    """Tell whether metadata say which schema they have."""
    with contextlib.closing(sqlite3.connect(data / "metadata.db")) as database:
        query = "SELECT count(*) FROM entry WHERE key = ?"
        return bool(database.execute(query, (SCHEMA_KEY,)).fetchone()[0])


def _upload_in_turns(one: Server, other: Server) -> None:
    """Begin an upload at *one*, go on at *other*, finish it at *one*."""
    pieces = (b"first" * 9_000, b"second" * 9_000)
    location = expect(fetch(one, "POST", "/v2/a/b/blobs/uploads/"), 202).headers["Location"]
    for server, piece in zip((one, other), pieces, strict=True):
        location = expect(fetch(server, "PATCH", location, body=piece), 202).headers["Location"]
    digest = digest_of(b"".join(pieces))
    expect(fetch(one, "PUT", f"{location}?digest={digest}"), 201)
    assert get_blob(other, "a/b", digest) == b"".join(pieces)
