"""Real clients at a registry with accounts: log in, push, pull, be refused, pull without a name.

Alice owns ``alice/**`` and may push to ``public/**``, which everybody may pull; bob owns nothing
but ``bob/**``. Every client keeps its credentials as it does on a desk.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from conformance.clients import images
from conformance.clients.appr import Appr
from conformance.clients.charts import Chart
from conformance.clients.conftest import Client
from conformance.clients.doors import HELMS
from conformance.conftest import Ran, Run, Server, Servers, Tool, places, servers

__all__ = ["places", "servers"]

SETTINGS = """\
access:
  mode: accounts
  policy:
  - {who: [users], repositories: ["{user}/**"]}
  - {who: [anonymous], repositories: ["public/**"], actions: [pull]}
  - {who: [alice], repositories: ["public/**"], actions: [push]}
"""
PASSWORDS = {"alice": "correct horse", "bob": "battery staple"}


@pytest.fixture(scope="module")
def server(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A registry with accounts, which were made by our own command."""
    import subprocess
    import sys

    settings = tmp_path_factory.mktemp("accounts") / "registry.yaml"
    settings.write_text(SETTINGS)
    started = servers("--config", str(settings))
    for name, password in PASSWORDS.items():
        command = (sys.executable, "-m", "ociappr", "user", "add", name, "--password-file", "-")
        subprocess.run(
            (*command, "--config", str(settings), "--data", str(started.data)),
            input=f"{password}\n".encode(),
            env=servers.environment(started.data),
            check=True,
        )
    yield started
    servers.stop(started)
