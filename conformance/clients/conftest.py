"""Private daemons for the clients that need one: containerd, dockerd, buildkitd.

Each has its own socket and state in a folder of its own and is ended as the process that was
started here: a daemon of the machine is never reached, replaced or stopped.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from conformance.conftest import Ran, Run, Server, Tool
from conformance.tools.table import SYSTEM_PATH

READY_WITHIN = 60.0  # seconds
STOPPED_WITHIN = 60.0  # seconds

Client = Callable[..., Ran]
"""A client with its standing options, run as `run` does: `docker("pull", reference)`."""


@pytest.fixture
def here(server: Server, repo: str) -> str:
    """The repository of this test as most clients write it."""
    return f"{server.host}/{repo}"


@pytest.fixture(scope="session")
def containerd(tool: Tool) -> Iterator[Path]:
    """A containerd without its Kubernetes half; the value is its socket."""
    _need_root()
    program = tool("containerd")
    with _short_folder() as folder:
        (folder / "config.toml").write_text(
            f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{folder}/socket"\n[ttrpc]\naddress = "{folder}/ttrpc"\n'
        )
        with _daemon(folder, program, "-c", "config.toml") as listening:
            yield listening


@pytest.fixture(scope="session")
def dockerd(tool: Tool, containerd: Path) -> Iterator[Path]:
    """A docker daemon without networks, on the private containerd; the value is its socket."""
    program = tool("dockerd")
    with _short_folder() as folder:
        argv = (
            program,
            f"--host=unix://{folder}/socket",
            f"--containerd={containerd}",
            f"--pidfile={folder}/pid",
            f"--data-root={folder}/data",
            f"--exec-root={folder}/exec",
            "--iptables=false",
            "--ip6tables=false",
            "--bridge=none",
        )
        with _daemon(folder, *argv) as listening:
            yield listening


@pytest.fixture(scope="session")
def buildkitd(tool: Tool, server: Server) -> Iterator[Path]:
    """A BuildKit daemon that speaks plain http to the registry; the value is its socket."""
    _need_root()
    program = tool("buildkitd")
    with _short_folder() as folder:
        (folder / "config.toml").write_text(f'[registry."{server.host}"]\nhttp = true\n')
        argv = (
            program,
            "--config=config.toml",
            f"--addr=unix://{folder}/socket",
            f"--root={folder}/root",
            "--containerd-worker=false",
            "--oci-worker-snapshotter=native",
            "--oci-worker-net=host",
        )
        with _daemon(folder, *argv) as listening:
            yield listening


@pytest.fixture
def docker(run: Run, tool: Tool, dockerd: Path) -> Client:
    """The docker client, with the builder that is part of the engine."""
    program = partial(run, tool("docker"), f"--host=unix://{dockerd}")
    return partial(program, env={"DOCKER_BUILDKIT": "0", "DOCKER_CLI_HINTS": "false"})


@pytest.fixture
def ctr(run: Run, tool: Tool, containerd: Path, repo: str) -> Client:
    """The containerd client, in a namespace that no other test uses."""
    namespace = repo.replace("/", "-")
    return partial(run, tool("ctr"), f"--address={containerd}", f"--namespace={namespace}")


@pytest.fixture
def buildctl(run: Run, tool: Tool, buildkitd: Path) -> Client:
    """The BuildKit client."""
    return partial(run, tool("buildctl"), f"--addr=unix://{buildkitd}")


@pytest.fixture
def skopeo(run_plain: Run, tool: Tool) -> Client:
    """Skopeo, asking for no signatures."""
    return partial(run_plain, tool("skopeo"), "--insecure-policy")


@pytest.fixture
def podman(run_plain: Run, tool: Tool, store: tuple[str, ...]) -> Client:
    """Podman, with images and containers of its own."""
    own = ("--cgroup-manager=cgroupfs", "--events-backend=none", f"--runtime={tool('runc')}")
    return partial(run_plain, tool("podman"), *store, *own)


@pytest.fixture
def buildah(run_plain: Run, tool: Tool, store: tuple[str, ...]) -> Client:
    """Buildah, on the same images as `podman`."""
    return partial(run_plain, tool("buildah"), *store)


@pytest.fixture
def store() -> Iterator[tuple[str, ...]]:
    """The options that give podman and buildah an empty store for one test."""
    _need_root()
    with _short_folder() as folder:
        yield f"--root={folder}/root", f"--runroot={folder}/run", "--storage-driver=vfs"


@pytest.fixture
def run_plain(run: Run, server: Server, home: Path) -> Run:
    """Run skopeo, podman or buildah, letting them speak plain http to the registry."""
    path = home / ".config" / "containers" / "registries.conf"
    path.parent.mkdir(parents=True)
    path.write_text(f'[[registry]]\nlocation = "{server.host}"\ninsecure = true\n')
    return run


def _need_root() -> None:
    """Fail in CI, else skip, unless the user is root."""
    if os.geteuid() == 0:
        return
    reason = "this daemon or store needs root"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def _short_folder() -> Iterator[Path]:
    """A folder until the block ends; short, for the path of a socket has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="clients-"))
    try:
        yield folder
    finally:
        _unmount_below(folder)
        shutil.rmtree(folder)


def _unmount_below(folder: Path) -> None:
    """Undo what a daemon leaves mounted: dockerd keeps the network namespace of the host."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for path in reversed(mounted):
        if Path(path).is_relative_to(folder):
            subprocess.run(("umount", path), check=True)


@contextmanager
def _daemon(folder: Path, *argv: str) -> Iterator[Path]:
    """Run a daemon until the block ends; it is ready when its socket takes connections."""
    log, listening = folder / "log", folder / "socket"
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env=os.environ | {"PATH": SYSTEM_PATH},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + READY_WITHIN
        while not _answers(listening):
            late = time.monotonic() > deadline
            if late or process.poll() is not None:
                pytest.fail(f"{argv[0]} is not ready:\n{log.read_text(errors='replace')[-8000:]}")
            time.sleep(0.05)
        yield listening
    finally:
        process.terminate()
        process.wait(STOPPED_WITHIN)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0
