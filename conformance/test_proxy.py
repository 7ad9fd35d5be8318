"""The proxy of docs/operations.md, run as it stands there."""

from __future__ import annotations

import os
from pathlib import Path

from conformance.conftest import Servers, Tool
from conformance.nginx import documented, nginx
from conformance.wire import digest_of, get_blob, push_image

OPERATIONS = Path(__file__).parents[1] / "docs" / "operations.md"


def test_nginx(start_server: Servers, tool: Tool, tmp_path: Path) -> None:
    with nginx(tool("nginx"), tmp_path, documented(OPERATIONS), start_server()) as outside:
        layer = os.urandom(5_000_000)
        push_image(outside, "a/b", "1.0.0", [layer])
        assert get_blob(outside, "a/b", digest_of(layer)) == layer
