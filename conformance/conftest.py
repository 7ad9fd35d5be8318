"""What every conformance test can ask for: a server, a repository, a home, a client to run."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from conformance.backends.pairs import PAIRS, Backends, Places
from conformance.nginx import documented, nginx
from conformance.servers import Servers, clean_environment, wait_ready
from conformance.tools import table
from conformance.wire import Server

__all__ = ["Ran", "Run", "Server", "Servers", "Tool"]

DEPLOYMENTS = Path(__file__).parents[1] / "docs" / "deployments.md"

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left: its output and its exit status."""

    stdout: str
    stderr: str
    code: int


class Run(Protocol):
    """Run a command to its end; see the fixture `run`."""

    def __call__(
        self,
        *argv: str | Path,
        cwd: Path | None = None,
        input: str | bytes | None = None,  # noqa: A002 - the name that subprocess has for it
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
        fails: bool = False,
    ) -> Ran: ...


Tool = Callable[[str], str]
"""Find a client by its name; see the fixture `tool`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let every test run on any pair of stores."""
    parser.addoption("--stores", choices=PAIRS, default=PAIRS[0], help="where registries lie")
    parser.addoption("--replicas", action="store_true", help="share two behind nginx, not one")


@pytest.fixture(scope="session")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    """The servers that hold registries, for the whole session."""
    started = Backends(tmp_path_factory.mktemp("backends"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def places(backends: Backends, pytestconfig: pytest.Config) -> Places:
    """Where registries lie in this session."""
    return backends.places(str(pytestconfig.getoption("--stores")))


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory, places: Places) -> Iterator[Servers]:
    """The servers of the whole session."""
    started = Servers(tmp_path_factory.mktemp("servers"), places)
    yield started
    started.stop_all()


@pytest.fixture(scope="session")
def replicas(servers: Servers) -> tuple[Server, Server]:
    """Two servers of one registry."""
    first = servers()
    return first, servers(data=first.data)


@pytest.fixture(scope="session")
def balanced(
    replicas: tuple[Server, Server], tool: Tool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The proxy of docs/deployments.md, which gives every request to the next replica."""
    folder = tmp_path_factory.mktemp("nginx")
    with nginx(tool("nginx"), folder, documented(DEPLOYMENTS), *replicas) as outside:
        yield outside


@pytest.fixture(scope="session")
def server(servers: Servers, request: pytest.FixtureRequest) -> Server:
    """A server of ours that all tests share; OCIAPPR_SERVER=HOST:PORT names another one."""
    if request.config.getoption("--replicas"):
        both: Server = request.getfixturevalue("balanced")
        return both
    host = os.environ.get("OCIAPPR_SERVER")
    if host is None:
        return servers()
    other = Server(host, f"http://{host}", Path(os.environ.get("OCIAPPR_DATA", os.devnull)))
    wait_ready(other, "/v2/")
    return other


@pytest.fixture
def start_server(tmp_path: Path, places: Places) -> Iterator[Servers]:
    """A factory of further servers, each with fresh data; all are stopped after the test."""
    started = Servers(tmp_path, places)
    yield started
    started.stop_all()


@pytest.fixture
def repo(request: pytest.FixtureRequest) -> str:
    """The name of a repository that no other test uses."""
    name = "".join(c for c in request.node.name.lower() if c.isascii() and c.isalnum())[:40]
    return f"test/{name}-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory for clients, with an empty docker configuration in it."""
    directory = tmp_path / "home"
    (directory / ".docker").mkdir(parents=True)
    (directory / ".docker" / "config.json").write_text("{}")
    return directory


@pytest.fixture
def run(home: Path) -> Run:
    """Run a client with its own home, and assert its exit status: 0, or with `fails` any other."""

    def start(
        *argv: str | Path,
        cwd: Path | None = None,
        input: str | bytes | None = None,  # noqa: A002
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
        fails: bool = False,
    ) -> Ran:
        own = {"HOME": str(home), "DOCKER_CONFIG": str(home / ".docker")}
        process = subprocess.Popen(
            argv,
            cwd=cwd or home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment() | own | dict(env or {}),
            start_new_session=True,
        )
        sent = input.encode() if isinstance(input, str) else input
        try:
            output = process.communicate(sent, timeout)
            end = f"exit status {process.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output = process.communicate()
            end = f"killed after {timeout} s"
        stdout, stderr = (part.decode(errors="replace") for part in output)
        right = (process.returncode != 0) is fails and end.startswith("exit")
        command = " ".join(map(str, argv))
        assert right, f"{command}\n{end}\nstdout:\n{stdout}\nstderr:\n{stderr}"
        return Ran(stdout, stderr, process.returncode)

    return start


@pytest.fixture(scope="session")
def tool() -> Tool:
    """Return the path of a client; without it fail in CI, else skip and tell how to install it."""

    def find(name: str) -> str:
        path = table.find(name)
        if path is not None:
            return str(path)
        reason = f"{name} is not installed: {table.TOOLS[name].hint()}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)

    return find


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the logs of the servers that a failed test used to its report."""
    report = yield
    if report.failed:
        used = getattr(item, "funcargs", {})
        for name in ("servers", "start_server"):
            if isinstance(used.get(name), Servers):
                report.sections.append((f"logs of {name}", used[name].logs()))
    return report
