"""The proxy of docs/operations.md, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from conformance.conftest import Servers, Tool
from conformance.servers import free_port, wait_ready
from conformance.wire import Server, digest_of, get_blob, push_image

OPERATIONS = Path(__file__).parents[1] / "docs" / "operations.md"
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def test_nginx(start_server: Servers, tool: Tool, tmp_path: Path) -> None:
    (block,) = re.findall(r"^```nginx\n(.*?)^```", OPERATIONS.read_text(), re.DOTALL | re.MULTILINE)
    outside = Server(f"127.0.0.1:{free_port()}", "", tmp_path)
    block = block.replace("127.0.0.1:5000", start_server().host).replace("8080", outside.host)
    folders = "".join(f"{name}_temp_path {tmp_path}/{name};\n" for name in TEMPORARY)
    settings = tmp_path / "nginx.conf"
    settings.write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {folders} {block} }}\n"
    )
    proxy = subprocess.Popen([tool("nginx"), "-p", str(tmp_path), "-c", str(settings)])
    try:
        wait_ready(outside, "/v2/", process=proxy)
        layer = os.urandom(5_000_000)
        push_image(outside, "a/b", "1.0.0", [layer])
        assert get_blob(outside, "a/b", digest_of(layer)) == layer
    finally:
        proxy.terminate()
        proxy.wait(20)
