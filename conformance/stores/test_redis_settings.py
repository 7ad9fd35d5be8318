"""What is looked at when a store in Redis is opened: rights, what may be lost, the schema."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from conformance.backends import redis as backend
from conformance.backends.daemon import running
from conformance.servers import free_port
from conformance.stores.conftest import require
from ociappr.errors import StoreFull, StoreUnavailable
from tests.contracts.metadata import keys, seed

Start = Callable[..., backend.Server]

# what docs/stores/redis.md lists
COMMANDS = (
    "+hello +select +ping +eval +evalsha +get +set +time"
    " +hget +hmget +hset +hdel +zadd +zrem +zrangebylex +zrevrangebylex"
)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """What starts a server with settings of its own."""
    require("redis-server")
    with ExitStack() as started:

        def start(**settings: str) -> backend.Server:
            server = backend.server(tmp_path / "redis", **settings)
            started.enter_context(running(server.daemon))
            return server

        yield start


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what we warned of; asyncio has words of its own for tests that start servers."""
    ours = [one for one in caplog.records if one.name.startswith("ociappr")]
    return [one.getMessage() for one in ours if one.levelno >= logging.WARNING]


# -- who may enter -------------------------------------------------------------------------------


async def test_a_password_is_asked_for(start: Start) -> None:
    server = start(requirepass="right/word")
    url = server.url("a")
    for password in ("", "wrong"):
        with pytest.raises(StoreUnavailable, match="Redis at") as refusal:
            async with backend.opened(url, password=password):
                pass
        assert "metadata.password" in refusal.value.hint
        assert "wrong" not in str(refusal.value)
    async with backend.opened(url, password="right/word") as store:
        await seed(store, b"a")
    other = url.replace("//", "//:wrong@")
    async with backend.opened(other, password="right/word") as store:
        assert await keys(store) == [b"a"]
    own = url.replace("//", "//:right%2Fword@")
    async with backend.opened(own) as store:
        assert await keys(store) == [b"a"]


def restricted(server: backend.Server, *more: str) -> str:
    """Make a user who may only do what is needed, and *more*; return the URL for them."""
    rights = ["-@all", *COMMANDS.split(), *more]
    server.ask("ACL", "SETUSER", "registry", "reset", "on", ">secret", "~{a}:*", *rights)
    return server.url("a").replace("//", "//registry:secret@")


async def test_a_user_needs_few_rights(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    url = restricted(start(), "+config|get")
    async with backend.opened(url) as store:
        await seed(store, b"a", b"b")
        assert await keys(store) == [b"a", b"b"]
        assert await keys(store, reverse=True) == [b"b", b"a"]
    assert warnings(caplog) == []


async def test_a_user_who_lacks_a_right_is_told(start: Start) -> None:
    url = restricted(start(), "-evalsha")
    async with backend.opened(url) as store:
        with pytest.raises(StoreUnavailable, match="permission") as refusal:
            await seed(store, b"a")
    assert "redis.md" in refusal.value.hint


async def test_settings_that_are_not_told_are_warned_of(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server = start()
    async with backend.opened(restricted(server)):
        policy, persistence = warnings(caplog)
    assert "does not tell its maxmemory-policy" in policy
    assert "does not tell how it keeps what was acknowledged" in persistence
    caplog.clear()
    async with backend.opened(restricted(server, "+info")):
        (persistence,) = warnings(caplog)
    assert "does not tell how it keeps what was acknowledged" in persistence


async def test_a_report_tells_what_settings_do_not(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    url = restricted(server := start(appendonly="no"), "+info")
    async with backend.opened(url):
        assert "keeps no append-only file" in warnings(caplog)[0]
    server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(StoreUnavailable, match="allkeys-lru"):
        async with backend.opened(url):
            pass


# -- what may be lost ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"appendonly": "no"}, "all pushes since its last snapshot are lost"),
        ({"appendfsync": "everysec"}, "pushes of the last second or two may be lost"),
        ({"appendfsync": "no"}, "pushes of the last half a minute may be lost"),
        ({"no_appendfsync_on_rewrite": "yes"}, "does not sync while it rewrites its file"),
    ],
    ids=str,
)
async def test_settings_that_lose_writes_are_warned_of(
    start: Start, caplog: pytest.LogCaptureFixture, settings: dict[str, str], told: str
) -> None:
    server = start(**settings)
    async with backend.opened(server.url("a")) as store:
        await seed(store, b"a")
    (warning,) = warnings(caplog)
    assert warning.startswith(f"Redis at 127.0.0.1:{server.port} ")
    assert told in warning
    assert "appendfsync always" in warning


async def test_safe_settings_are_nothing_to_talk_about(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async with backend.opened(start().url("a")):
        pass
    assert warnings(caplog) == []


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
async def test_a_server_that_deletes_at_will_is_refused(start: Start, policy: str) -> None:
    server = start(maxmemory_policy=policy)
    with pytest.raises(StoreUnavailable, match=policy) as refusal:
        async with backend.opened(server.url("a")):
            pass
    assert "noeviction" in refusal.value.hint
    assert server.ask("DBSIZE") == 0


async def test_what_only_removes_keys_with_an_expiry_is_fine(start: Start) -> None:
    async with backend.opened(start(maxmemory_policy="volatile-lru").url("a")) as store:
        await seed(store, b"a")


async def test_a_new_registry_needs_room(start: Start) -> None:
    server = start(maxmemory="1")
    with pytest.raises(StoreFull):
        async with backend.opened(server.url("a")):
            pass


# -- what is there already -----------------------------------------------------------------------


@pytest.mark.parametrize("schema", ["2", "something else"])
async def test_a_newer_schema_is_refused(start: Start, schema: str) -> None:
    server = start()
    server.ask("SET", "{a}:schema", schema)
    with pytest.raises(StoreUnavailable, match=f"schema {schema}, this release knows 1") as refusal:
        async with backend.opened(server.url("a")):
            pass
    assert refusal.value.hint
    assert server.ask("KEYS", "*") == ["{a}:schema"]


async def test_registries_of_one_server_do_not_meet(start: Start) -> None:
    server = start()
    second = server.url("a").replace("?", "/1?")
    async with (
        backend.opened(server.url("a")) as one,
        backend.opened(server.url("b")) as other,
        backend.opened(second) as third,
    ):
        await seed(one, b"a")
        assert await keys(other) == await keys(third) == []
        await seed(third, b"c")
        assert await keys(one) == [b"a"]
    assert {key.partition(":")[0] for key in server.ask("KEYS", "*")} == {"{a}", "{b}"}


async def test_nobody_there_is_told() -> None:
    port = free_port()
    with pytest.raises(StoreUnavailable, match=f"Redis at 127.0.0.1:{port}"):
        async with backend.opened(f"redis://127.0.0.1:{port}"):
            pass


# -- TLS -----------------------------------------------------------------------------------------


def certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate that signs itself; return it and its key."""
    made, key = directory / "certificate.pem", directory / "key.pem"
    request = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=redis"
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(made)]
    subprocess.run([*request.split(), *names, *files], check=True, capture_output=True)
    return made, key


async def test_tls_trusts_whom_it_is_told(start: Start, tmp_path: Path) -> None:
    made, key = certificate(tmp_path)
    port = free_port()
    start(
        tls_port=str(port),
        tls_cert_file=str(made),
        tls_key_file=str(key),
        tls_auth_clients="no",
    )
    url = f"rediss://127.0.0.1:{port}?name=a"
    with pytest.raises(StoreUnavailable, match="certificate verify failed"):
        async with backend.opened(url):
            pass
    async with backend.opened(url, ca_file=str(made)) as store:
        await seed(store, b"a")
        assert await keys(store) == [b"a"]
    misnamed = url.replace("127.0.0.1", "localhost")
    with pytest.raises(StoreUnavailable, match=r"certificate verify failed|not valid for"):
        async with backend.opened(misnamed, ca_file=str(made)):
            pass


async def test_certificates_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read certificates in .*absent"):
        async with backend.opened("rediss://127.0.0.1", ca_file=str(tmp_path / "absent")):
            pass
