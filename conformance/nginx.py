"""nginx with a configuration out of our documents, between clients and servers of ours."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conformance.servers import free_port, wait_ready
from conformance.wire import Server

_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def documented(document: Path) -> str:
    """Return the nginx configuration that stands in a document."""
    (block,) = re.findall(r"^```nginx\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)
    return str(block)


@contextmanager
def nginx(program: str, folder: Path, block: str, *behind: Server) -> Iterator[Server]:
    """Have nginx run within the block, by *block*, whose addresses become those of *behind*.

    The first address after ``listen`` becomes a free port, each ``127.0.0.1:500N`` in its order
    that of a server.
    """
    outside = Server(f"127.0.0.1:{free_port()}", "", folder)
    outside = Server(outside.host, f"http://{outside.host}", folder)
    block = block.replace("listen 8080", f"listen {outside.host}")
    places = dict.fromkeys(re.findall(r"127\.0\.0\.1:500\d", block))
    for place, server in zip(places, behind, strict=True):
        block = block.replace(place, server.host)
    folders = "".join(f"{name}_temp_path {folder}/{name};\n" for name in _TEMPORARY)
    settings = folder / "nginx.conf"
    settings.write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {folders} {block} }}\n"
    )
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(settings)])
    try:
        wait_ready(outside, "/v2/", process=process)
        yield outside
    finally:
        process.terminate()
        process.wait(20)
