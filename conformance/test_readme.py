"""The five-minute tour of the README, run as it stands there."""

from __future__ import annotations

import os
import re
from pathlib import Path

from conformance.conftest import Run, Servers, Tool

README = Path(__file__).parents[1] / "README.md"
ADDRESS = "127.0.0.1:5000"
CLIENTS = {"oras": "oras", "helm": "helm-3.22"}


def test_tour(start_server: Servers, run: Run, tool: Tool, tmp_path: Path) -> None:
    _, heading, tour = README.read_text().partition("\n## Five minutes through both doors\n")
    blocks = re.findall(r"^```sh\n(.*?)^```", tour.partition("\n## ")[0], re.DOTALL | re.MULTILINE)
    assert heading
    assert len(blocks) == 3
    programs, visited = tmp_path / "bin", tmp_path / "tour"
    programs.mkdir()
    visited.mkdir()
    for name, client in CLIENTS.items():
        (programs / name).symlink_to(tool(client))
    script = "set -eu\n" + "\n".join(blocks).replace("curl -s ", "curl -sSf ")

    shown = run(
        "sh",
        "-c",
        script.replace(ADDRESS, start_server().host),
        cwd=visited,
        env={"PATH": f"{programs}:{os.environ['PATH']}"},
    ).stdout

    assert (visited / "pulled" / "hello.txt").read_text() == "hello\n"
    assert (visited / "nginx-1.2.0.tgz").read_bytes() == (visited / "nginx.tgz").read_bytes()
    for said in ('"tags":["1.0.0"]', "name: nginx\nversion: 1.2.0\n", '"tags":["1.2.0","stable"]'):
        assert said in shown
