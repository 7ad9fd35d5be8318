"""PostgreSQL, started for tests and measurements, with a schema or a database for each of them."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from conformance.backends.daemon import Daemon, program, running
from conformance.servers import free_port

_USER = "postgres"  # who runs it, and its superuser; refuses to be root
_ACCESS = """
local all all trust
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""


@dataclass(slots=True)
class PostgreSQL:
    """A server with its own data; its superuser needs no password, everyone else does."""

    daemon: Daemon
    binaries: Path
    port: int
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def url(self, database: str = "postgres", *, user: str = _USER, **query: str) -> str:
        """Return a URL, without TLS unless `query` says otherwise."""
        options = urlencode({"sslmode": "disable"} | query)
        return f"postgresql://{user}@{self.address}/{database}?{options}"

    def fresh_name(self) -> str:
        """Return a name that nothing has yet."""
        return f"registry_{next(self._numbers)}"

    def fresh_schema(self) -> str:
        """Return the URL of a registry that is not there yet, in a schema of its own."""
        return self.url(schema=self.fresh_name())

    def fresh_database(self) -> str:
        """Make a database and return its name."""
        name = self.fresh_name()
        self.run(f"CREATE DATABASE {name}")
        return name

    def run(self, *statements: str, database: str = "postgres") -> str:
        """Run statements as the superuser, each on its own, and return what `psql` prints."""
        words = [word for statement in statements for word in ("-c", statement)]
        place = ("-h", "127.0.0.1", "-p", str(self.port), "-U", _USER, "-d", database)
        options = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1")
        command = [str(self.binaries / "psql"), *options, *place, *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()


@contextmanager
def postgresql(**settings: str) -> Iterator[PostgreSQL]:
    """Have a new server with `settings` within the block; its data go with it."""
    binaries = program("postgres").parent
    root = Path(tempfile.mkdtemp(prefix="postgresql-"))  # pytest's directories are root's alone
    port = free_port()
    try:
        owner = _owned(root)
        _initialise(binaries, root / "data", owner)
        places = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(root),
        }
        chosen = [f"--{name}={value}" for name, value in (places | settings).items()]
        ask = (str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port))
        daemon = Daemon(
            argv=[binaries / "postgres", "-D", root / "data", *chosen],
            directory=root,
            ready=lambda: subprocess.run(ask, check=False).returncode == 0,
            user=owner,
            ending=signal.SIGINT,  # at SIGTERM it waits until every client has left
        )
        with running(daemon):
            yield PostgreSQL(daemon, binaries, port)
    finally:
        shutil.rmtree(root)


def _owned(root: Path) -> str | None:
    """Give a directory to who runs the server, where that is somebody else; return who."""
    if os.geteuid() != 0:
        return None
    shutil.chown(root, _USER)
    return _USER


def _initialise(binaries: Path, data: Path, owner: str | None) -> None:
    initdb = (str(binaries / "initdb"), "--no-sync", "--no-locale", "-E", "UTF8", "-U", _USER)
    command = (*initdb, "-D", str(data))
    subprocess.run(command, cwd=data.parent, user=owner, check=True, capture_output=True)
    (data / "pg_hba.conf").write_text(_ACCESS)
