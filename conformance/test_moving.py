"""The real program: kill -9 of ``ociappr migrate`` at any moment, beside a server that is used."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from conformance.servers import Servers, clean_environment
from conformance.wire import Server, digest_of, get_blob, get_manifest, push_image, tags

KILLS = 6
IMAGES = 60
LONGEST = 0.3  # seconds from the first line of progress until the kill


def command(*arguments: str) -> subprocess.Popen[bytes]:
    """Start a command of ours."""
    return subprocess.Popen(
        (sys.executable, "-m", "ociappr", *arguments),
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finished(*arguments: str) -> tuple[int, str]:
    """Run a command of ours to its end; return its status and what it printed."""
    process = command(*arguments)
    output, _ = process.communicate(timeout=120)
    return process.returncode, output.decode()


def picture(server: Server) -> dict[str, object]:
    """Return every tag with its manifest."""
    found: dict[str, object] = {}
    for tag in tags(server, "a/b"):
        raw, kind, digest = get_manifest(server, "a/b", tag)
        found[tag] = (raw, kind, digest)
    return found


def layer(number: int) -> bytes:
    """Return a layer that no other number has."""
    return random.Random(number).randbytes(300_000)


def test_kill_minus_9_of_migrate(start_server: Servers, tmp_path: Path) -> None:
    """Run again, it goes on; pushes go on meanwhile; the target shows the same at the end."""
    server = start_server(data=tmp_path / "old")
    for number in range(IMAGES):
        push_image(server, "a/b", f"tag-{number}", [layer(number)])
    stop, pushed = threading.Event(), list[str]()

    def push() -> None:
        while not stop.is_set():
            number = IMAGES + len(pushed)
            push_image(server, "a/b", f"tag-{number}", [layer(number)])
            pushed.append(f"tag-{number}")

    pusher = threading.Thread(target=push)
    pusher.start()
    move = ("migrate", "--from", str(tmp_path / "old"), "--to", str(tmp_path / "new"))
    try:
        for number in range(KILLS):
            process = command(*move)
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"pass 1, blobs")
            time.sleep(random.Random(number).uniform(0, LONGEST))
            process.send_signal(signal.SIGKILL)
            process.communicate()
    finally:
        stop.set()
        pusher.join()
    copied = len(list((tmp_path / "new" / "blobs" / "blobs" / "sha256").glob("*/*")))
    status, output = finished(*move)
    assert status == 0, output
    assert "the target is the same registry, and verified" in output
    assert copied > 0
    moved = start_server(data=tmp_path / "new")
    assert picture(moved) == picture(server)
    for number in range(IMAGES + len(pushed)):
        data = layer(number)
        assert get_blob(moved, "a/b", digest_of(data)) == data
    start_server.stop(moved)
    status, output = finished("fsck", "--data", str(tmp_path / "new"))
    assert (status, output) == (0, "everything is as it should be\n")
