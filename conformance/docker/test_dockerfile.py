"""Build the image on a base made here, run it, use it and stop it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.clients.conftest import Client
from conformance.conftest import Server, Tool
from conformance.servers import free_port, wait_ready
from conformance.tools.table import CERTIFICATES
from conformance.wire import get_blob, get_manifest, push_image, tags

SOURCE = Path(__file__).parents[2]
BASE = "ociappr-base:local"
IMAGE = "ociappr:local"
HEALTHY_WITHIN = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Container:
    """A container of the image and the registry in it."""

    name: str
    server: Server


@pytest.fixture
def image(docker: Client, tool: Tool) -> str:
    """The image, built with a base of Debian's own Python."""
    docker("import", tool("base-image"), BASE, timeout=300)
    arguments = (f"--build-arg=BASE={BASE}", f"--build-arg=PIP_CERT={CERTIFICATES}")
    docker("build", "--network=host", *arguments, f"--tag={IMAGE}", SOURCE, timeout=600)
    return IMAGE


@pytest.fixture
def start(docker: Client, image: str) -> Iterator[Callable[[], Container]]:
    """A factory of containers, all on the volume ``data``."""
    names: list[str] = []

    def run() -> Container:
        host = f"127.0.0.1:{free_port()}"
        setting = f"--env=OCIAPPR_SERVER__LISTEN={host}"
        options = ("--detach", "--network=host", "--volume=data:/data", setting)
        names.append(docker("run", *options, image).stdout.strip())
        server = Server(host, f"http://{host}", Path("/data"))
        wait_ready(server, "/readyz")
        return Container(names[-1], server)

    yield run
    for name in names:
        docker("rm", "--force", name)
    docker("volume", "rm", "data")


def inspect(docker: Client, kind: str, name: str, template: str) -> object:
    """Return what the engine says of an object, parsed."""
    return json.loads(docker(kind, "inspect", f"--format={{{{json {template}}}}}", name).stdout)


def test_image_is_built_runs_stops_and_keeps_its_data(
    docker: Client, start: Callable[[], Container], repo: str
) -> None:
    first = start()
    pushed = push_image(first.server, repo, "v1", [b"a layer"])
    manifest, _, digest = get_manifest(first.server, repo, "v1")
    assert digest == pushed
    (layer,) = json.loads(manifest)["layers"]
    assert get_blob(first.server, repo, layer["digest"]) == b"a layer"

    deadline = time.monotonic() + HEALTHY_WITHIN
    while (
        health := inspect(docker, "container", first.name, ".State.Health.Status")
    ) == "starting":
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert health == "healthy"

    docker("stop", "--time=30", first.name)
    assert inspect(docker, "container", first.name, ".State.ExitCode") == 0

    second = start()
    assert tags(second.server, repo) == ["v1"]

    config = inspect(docker, "image", IMAGE, ".Config")
    assert isinstance(config, dict)
    assert (config["User"], config["Volumes"]) == ("ociappr", {"/data": {}})
