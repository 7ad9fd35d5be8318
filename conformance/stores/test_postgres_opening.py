"""What has to be right before a registry opens its metadata in PostgreSQL, and how it is told."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from conformance.backends.certificates import Certificates
from conformance.backends.postgres import PostgreSQL
from conformance.servers import Servers
from conformance.stores.conftest import OpenPostgres
from conformance.wire import get_manifest, push_image
from ociappr.config import load
from ociappr.errors import StoreUnavailable
from ociappr.metadata.postgres import PostgresMetadata
from ociappr.stores import open_metadata
from tests.contracts.metadata import keys, seed

PASSWORD = "open sesame/?@"


@pytest.fixture
def database(postgres_server: PostgreSQL) -> str:
    """A database of a user `librarian`, who has to say the password."""
    if not postgres_server.run("SELECT 1 FROM pg_roles WHERE rolname = 'librarian'"):
        postgres_server.run(f"CREATE ROLE librarian LOGIN PASSWORD '{PASSWORD}'")
    name = postgres_server.fresh_database()
    postgres_server.run(f"ALTER DATABASE {name} OWNER TO librarian")
    return name


def set_to(server: PostgreSQL, settings: Mapping[str, str]) -> None:
    """Set a running server, and return when that is in effect."""
    changes = [f"ALTER SYSTEM SET {name} = '{value}'" for name, value in settings.items()]
    server.run(*changes, "SELECT pg_reload_conf()")
    while {name: server.run(f"SHOW {name}") for name in settings} != settings:
        pass


@contextmanager
def reloaded(server: PostgreSQL, **settings: str) -> Iterator[None]:
    """Have a server set otherwise within the block."""
    before = {name: server.run(f"SHOW {name}") for name in settings}
    set_to(server, settings)
    try:
        yield
    finally:
        set_to(server, before)


# passwords


async def test_a_password_in_the_url(
    postgres_server: PostgreSQL, database: str, open_postgres: OpenPostgres
) -> None:
    user = f"librarian:{quote(PASSWORD, safe='')}"
    store = await open_postgres(postgres_server.url(database, user=user))
    await seed(store, b"a")


async def test_a_password_from_a_file(
    postgres_server: PostgreSQL, database: str, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    environ = {
        "OCIAPPR_METADATA__URL": postgres_server.url(database, user="librarian"),
        "OCIAPPR_METADATA__PASSWORD_FILE": str(tmp_path / "password"),
    }
    store = await open_metadata(load(environ=environ).config)
    await seed(store, b"a")
    await store.close()


@pytest.mark.parametrize("password", ["", "wrong"])
async def test_a_wrong_password(
    postgres_server: PostgreSQL, database: str, open_postgres: OpenPostgres, password: str
) -> None:
    url = postgres_server.url(database, user="librarian")
    with pytest.raises(StoreUnavailable, match=r"cannot open metadata at 127\.0\.0\.1:") as refusal:
        await open_postgres(url, password=password)
    assert "password" in refusal.value.message
    assert "metadata.password" in refusal.value.hint


# servers


@pytest.mark.parametrize("host", ["no-such-host.invalid:5432", "127.0.0.1:1"])
async def test_a_server_that_is_not_there(open_postgres: OpenPostgres, host: str) -> None:
    with pytest.raises(StoreUnavailable, match=f"cannot open metadata at {host}/db") as refusal:
        await open_postgres(f"postgresql://someone:hidden@{host}/db")
    assert "that the server runs" in refusal.value.hint
    assert "hidden" not in refusal.value.message


async def test_a_database_that_is_not_there(
    postgres_server: PostgreSQL, open_postgres: OpenPostgres
) -> None:
    with pytest.raises(StoreUnavailable, match='database "nowhere" does not exist') as refusal:
        await open_postgres(postgres_server.url("nowhere"))
    assert "metadata.url" in refusal.value.hint


async def test_a_server_that_stands_still(
    postgres_server: PostgreSQL, open_postgres: OpenPostgres
) -> None:
    with postgres_server.daemon.frozen(), pytest.raises(StoreUnavailable, match="in time"):
        await open_postgres(postgres_server.fresh_schema(), seconds=0.5)


async def test_a_unix_socket(postgres_server: PostgreSQL, open_postgres: OpenPostgres) -> None:
    place = {"host": str(postgres_server.daemon.directory), "port": str(postgres_server.port)}
    query = urlencode(place | {"schema": postgres_server.fresh_name()})
    await seed(await open_postgres(f"postgres://postgres@/postgres?{query}"), b"a")


async def test_several_hosts_are_tried(
    postgres_server: PostgreSQL, open_postgres: OpenPostgres
) -> None:
    url = postgres_server.fresh_schema().replace("@", "@127.0.0.1:1,")
    await seed(await open_postgres(url), b"a")


async def test_a_server_that_may_not_be_written(
    postgres_server: PostgreSQL, open_postgres: OpenPostgres
) -> None:
    name = postgres_server.fresh_database()
    postgres_server.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(StoreUnavailable, match="cannot open metadata") as refusal:
        await open_postgres(postgres_server.url(name))
    assert "may be written" in refusal.value.hint


async def test_a_server_that_may_lose_what_it_acknowledged(
    postgres_server: PostgreSQL, open_postgres: OpenPostgres
) -> None:
    url = postgres_server.fresh_schema()
    with reloaded(postgres_server, fsync="off"):
        with pytest.raises(StoreUnavailable, match="fsync is off") as refusal:
            await open_postgres(url)
        assert "fsync = on" in refusal.value.hint
    await open_postgres(url)


async def test_a_server_that_may_tear_pages(
    postgres_server: PostgreSQL, open_postgres: OpenPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    with reloaded(postgres_server, full_page_writes="off"), caplog.at_level(logging.WARNING):
        await open_postgres(postgres_server.fresh_schema())
    assert "full_page_writes is off" in caplog.text


# tables


async def test_many_may_open_a_new_registry_at_once(
    postgres_server: PostgreSQL, open_postgres: OpenPostgres
) -> None:
    url = postgres_server.fresh_schema()
    stores = await asyncio.gather(*(open_postgres(url) for _ in range(12)))
    await asyncio.gather(*(seed(store, b"%02d" % number) for number, store in enumerate(stores)))
    assert await keys(stores[0]) == [b"%02d" % number for number in range(12)]


async def test_a_newer_schema_is_refused(
    postgres_server: PostgreSQL, database: str, open_postgres: OpenPostgres
) -> None:
    url = postgres_server.url(database)
    await open_postgres(url)
    postgres_server.run("UPDATE ociappr.schema_version SET current = 2", database=database)
    with pytest.raises(StoreUnavailable, match="schema 2, this release knows 1") as refusal:
        await open_postgres(url)
    assert "or a newer one" in refusal.value.hint


async def test_tables_of_others_are_left_alone(
    postgres_server: PostgreSQL, database: str, open_postgres: OpenPostgres
) -> None:
    postgres_server.run("CREATE SCHEMA ociappr", "CREATE TABLE ociappr.entry ()", database=database)
    with pytest.raises(StoreUnavailable, match='"entry" already exists'):
        await open_postgres(postgres_server.url(database))
    assert postgres_server.run("TABLE ociappr.entry", database=database) == ""


async def test_a_user_who_may_not_create(
    postgres_server: PostgreSQL, database: str, open_postgres: OpenPostgres
) -> None:
    """A schema that was made for the user will do, too."""
    postgres_server.run(f"ALTER DATABASE {database} OWNER TO postgres")
    url = postgres_server.url(database, user="librarian")
    with pytest.raises(StoreUnavailable, match="permission denied") as refusal:
        await open_postgres(url, password=PASSWORD)
    assert "GRANT CREATE" in refusal.value.hint
    postgres_server.run("CREATE SCHEMA ociappr AUTHORIZATION librarian", database=database)
    await seed(await open_postgres(url, password=PASSWORD), b"a")


# TLS


@pytest.fixture
def authority(postgres_server: PostgreSQL) -> Iterator[Path]:
    """The certificate of who vouches for the server, which speaks TLS within the test."""
    made = Certificates.made(postgres_server.daemon.directory)
    if postgres_server.daemon.user is not None:
        shutil.chown(made.key, postgres_server.daemon.user)
    places = {"ssl_cert_file": str(made.certificate), "ssl_key_file": str(made.key)}
    with reloaded(postgres_server, **places, ssl="on"):
        yield made.authority


def over_tls(server: PostgreSQL, *, host: str, **query: str) -> str:
    """Return the URL of a fresh registry, its server called by `host`."""
    url = server.url(schema=server.fresh_name()).replace("127.0.0.1", host)
    return url.replace("sslmode=disable", urlencode(query))


async def as_the_server_sees(store: PostgresMetadata, column: str) -> object:
    """Return what PostgreSQL knows of the TLS of one of our connections."""
    question = f"SELECT {column} FROM pg_stat_ssl WHERE pid = pg_backend_pid()"  # noqa: S608 - ours
    async with store._pool.acquire() as connection:
        return await connection.fetchval(question)


@pytest.mark.parametrize(
    ("host", "query", "is_trusted"),
    [
        ("localhost", {}, True),
        ("localhost", {"sslmode": "verify-full"}, True),
        ("127.0.0.1", {"sslmode": "verify-ca"}, True),
        ("127.0.0.1", {"sslmode": "require"}, False),
    ],
)
async def test_a_certificate_is_verified(
    postgres_server: PostgreSQL,
    authority: Path,
    open_postgres: OpenPostgres,
    *,
    host: str,
    query: dict[str, str],
    is_trusted: bool,
) -> None:
    url = over_tls(postgres_server, host=host, **query)
    store = await open_postgres(url, ca_file=str(authority) if is_trusted else "")
    await seed(store, b"a")
    assert await as_the_server_sees(store, "ssl") is True


@pytest.mark.parametrize(
    ("host", "mode", "is_trusted"),
    [("127.0.0.1", "verify-full", True), ("localhost", "verify-full", False)],
)
async def test_a_certificate_that_does_not_fit(
    postgres_server: PostgreSQL,
    authority: Path,
    open_postgres: OpenPostgres,
    *,
    host: str,
    mode: str,
    is_trusted: bool,
) -> None:
    url = over_tls(postgres_server, host=host, sslmode=mode)
    with pytest.raises(StoreUnavailable, match="certificate verify failed") as refusal:
        await open_postgres(url, ca_file=str(authority) if is_trusted else "")
    assert "metadata.ca_file" in refusal.value.hint


async def test_a_certificate_of_our_own(
    postgres_server: PostgreSQL, authority: Path, open_postgres: OpenPostgres
) -> None:
    ours = {"sslcert": str(authority.with_name("server.pem"))}
    ours["sslkey"] = str(authority.with_name("server.key"))
    url = over_tls(postgres_server, host="localhost", sslmode="verify-full", **ours)
    with reloaded(postgres_server, ssl_ca_file=str(authority)):
        store = await open_postgres(url, ca_file=str(authority))
        assert await as_the_server_sees(store, "client_dn") == "/CN=localhost"


async def test_a_server_without_tls_is_refused(
    postgres_server: PostgreSQL, open_postgres: OpenPostgres
) -> None:
    with pytest.raises(StoreUnavailable, match="rejected SSL"):
        await open_postgres(over_tls(postgres_server, host="localhost", sslmode="verify-full"))


# whole servers of ours


def test_two_servers_show_the_same(postgres_server: PostgreSQL, tmp_path: Path) -> None:
    """They start at once, with two workers each, on tables that nobody has made yet."""
    url = postgres_server.fresh_schema()
    servers = Servers(tmp_path)
    shared = ("--metadata", url, "--storage", f"file://{tmp_path}/blobs", "--workers", "2")
    try:
        with ThreadPoolExecutor(2) as both:
            one, two = both.map(lambda _: servers(*shared), range(2))
        digest = push_image(one, "a/b", "1.0.0", [b"layer" * 10_000])
        assert get_manifest(two, "a/b", "1.0.0")[2] == digest
        postgres_server.daemon.restart()
        digest = push_image(two, "a/b", "2.0.0", [b"another layer" * 10_000])
        assert get_manifest(one, "a/b", "2.0.0")[2] == digest
    finally:
        servers.stop_all()
