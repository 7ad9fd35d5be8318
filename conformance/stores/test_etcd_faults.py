"""Metadata in etcd, where etcd or the way to it is not as it should be."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from conformance.backends.etcd import NEEDED, Member, authenticate, cluster, connect, etcd
from conformance.servers import free_port
from conformance.stores.conftest import require
from ociappr.errors import StoreFull, StoreUnavailable, TooLarge
from ociappr.metadata import MAX_COMMIT, MAX_OPERATIONS, Delete, Put
from ociappr.metadata.etcd import EtcdMetadata
from tests.contracts.metadata import entry, keys, lands, seed


@pytest.fixture(scope="module", autouse=True)
def _needed() -> None:
    require("etcd")


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    with etcd(tmp_path) as started:
        yield started


def writes(member: Member, key: bytes) -> int:
    """Return how often *key* was written."""
    reply = msgspec.json.decode(member.call("kv/range", {"key": key}))
    return sum(int(kv["version"]) for kv in reply.get("kvs", []))


# limits


async def test_a_limit_too_low_is_told_at_the_start_and_at_a_commit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), etcd(tmp_path, needed=()) as member:
        store = await connect(f"etcd://{member.host}/p")
        assert "start etcd with --max-txn-ops 1024" in caplog.text
        assert await lands(store, [], [Put(b"a%03d" % number, b"") for number in range(128)])
        with pytest.raises(TooLarge, match="too many operations") as refusal:
            await store.commit([], [Put(b"b%03d" % number, b"") for number in range(129)])
        assert "--max-txn-ops" in refusal.value.hint
        assert len(await keys(store)) == 128
        names = [b"a%03d" % number for number in range(MAX_OPERATIONS)]
        assert len(await store.get(names)) == 128
        await store.close()


@pytest.mark.parametrize("size", [200_000, MAX_COMMIT])
async def test_a_request_too_large_is_told(
    tmp_path: Path, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    with etcd(tmp_path, "--max-request-bytes", "100000", needed=NEEDED[:2]) as member:
        store = await connect(f"etcd://{member.host}/p")
        with pytest.raises(TooLarge) as refusal:
            await store.commit([], [Put(b"a", b"x" * size)])
        assert "--max-request-bytes" in refusal.value.hint
        assert await keys(store) == []
        await store.close()
    assert not [one for one in caplog.records if one.name.startswith("ociappr")]


async def test_a_full_etcd_is_told_and_loses_nothing(tmp_path: Path) -> None:
    with etcd(tmp_path, "--quota-backend-bytes", "2000000") as member:
        store = await connect(f"etcd://{member.host}/p")
        fitted = await fill(store)
        assert set(fitted) <= set(await keys(store))
        with pytest.raises(StoreFull) as refusal:
            await seed(store, b"a")
        assert "--quota-backend-bytes" in refusal.value.hint
        await (await connect(f"etcd://{member.host}/p")).close()
        assert (await entry(store, fitted[0])).value == b"x" * 50_000
        await store.commit([], [Delete(key) for key in await keys(store)])
        free_space(member)
        await seed(store, b"a")
        assert await keys(store) == [b"a"]
        await store.close()


async def fill(store: EtcdMetadata) -> list[bytes]:
    """Return the keys whose commit was acknowledged before etcd was full."""
    fitted: list[bytes] = []
    for number in range(1_000):
        try:
            await store.commit([], [Put(b"k%03d" % number, b"x" * 50_000)])
        except StoreFull:
            return fitted
        fitted.append(b"k%03d" % number)
    pytest.fail("there is no end to this etcd")


def free_space(member: Member) -> None:
    """Do what docs/stores/etcd.md tells to do with an etcd that is full."""
    status = msgspec.json.decode(member.call("maintenance/status", {}))
    revision = int(status["header"]["revision"])
    member.call("kv/compaction", {"revision": revision, "physical": True})
    member.call("maintenance/defragment", {})
    alarms = msgspec.json.decode(member.call("maintenance/alarm", {"action": "GET"}))
    for alarm in alarms["alarms"]:
        member.call("maintenance/alarm", {"action": "DEACTIVATE", **alarm})


# users


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Member]:
    """An etcd that asks for passwords."""
    with etcd(tmp_path, "--bcrypt-cost", "4") as member:
        authenticate(member, user="registry", password="p@ss", prefix="ociappr")
        yield member


async def test_a_token_that_became_invalid_is_renewed(guarded: Member) -> None:
    store = await connect(f"etcd://registry@{guarded.host}/ociappr", password="p@ss")
    await seed(store, b"a")
    tokens = {store._client._token}
    for turn in range(3):
        forget_tokens(guarded, user="registry", password="p@ss")
        await asyncio.gather(*(seed(store, b"%d/%02d" % (turn, i)) for i in range(20)))
        tokens.add(store._client._token)
    assert len(tokens) == 4
    forget_tokens(guarded, user="registry", password="p@ss")
    assert len(await keys(store)) == 61
    await store.close()


async def test_a_restart_needs_nobody_to_log_in_again(guarded: Member) -> None:
    store = await connect(f"etcd://registry@{guarded.host}/ociappr", password="p@ss")
    await asyncio.to_thread(guarded.daemon.restart)
    await asyncio.gather(*(seed(store, b"%02d" % number) for number in range(20)))
    assert len(await keys(store)) == 20
    await store.close()


def forget_tokens(member: Member, *, user: str, password: str) -> None:
    """Have *member* forget all tokens of a user: it does when the password is set anew."""
    root = msgspec.json.decode(
        member.call("auth/authenticate", {"name": "root", "password": "root"})
    )
    change = {"name": user, "password": password}
    member.call("auth/user/changepw", change, token=root["token"])


async def test_the_password_may_stand_in_the_url(guarded: Member) -> None:
    store = await connect(f"etcd://registry:p%40ss@{guarded.host}/ociappr")
    assert await keys(store) == []
    await store.close()


@pytest.mark.parametrize(
    ("user", "password", "prefix", "says", "hint"),
    [
        ("registry@", "wrong", "ociappr", "invalid user ID or password", "metadata.password"),
        ("nobody@", "p@ss", "ociappr", "invalid user ID or password", "the user in metadata.url"),
        ("", "", "ociappr", "user name is empty", "name a user in metadata.url"),
        ("registry@", "p@ss", "other", "permission denied", "grant the user"),
    ],
)
async def test_a_stranger_is_told_why(
    guarded: Member, user: str, password: str, prefix: str, says: str, hint: str
) -> None:
    with pytest.raises(StoreUnavailable, match=f"cannot open metadata.*{says}") as refusal:
        await connect(f"etcd://{user}{guarded.host}/{prefix}", password=password)
    assert hint in refusal.value.hint


async def test_a_user_where_nobody_asks_for_one_is_told(member: Member) -> None:
    with pytest.raises(StoreUnavailable, match="authentication is not enabled") as refusal:
        await connect(f"etcd://registry@{member.host}/ociappr", password="p@ss")
    assert refusal.value.hint


# TLS


def certificate(directory: Path) -> tuple[Path, Path]:
    """Return a certificate of 127.0.0.1 that is its own authority, and its key."""
    made = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=etcd", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", made[0], "-keyout", made[1]),
        ],
        check=True,
        capture_output=True,
    )
    return made


async def test_tls_trusts_whom_it_is_told_to(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    flags = ("--cert-file", str(cert), "--key-file", str(key))
    with etcd(tmp_path, *flags, scheme="https") as member:
        store = await connect(f"etcds://{member.host}/p", ca_file=cert)
        await seed(store, b"a")
        assert await keys(store) == [b"a"]
        await store.close()
        with pytest.raises(StoreUnavailable, match="certificate") as refusal:
            await connect(f"etcds://{member.host}/p")
        assert "metadata.ca_file" in refusal.value.hint
        with pytest.raises(StoreUnavailable, match="cannot open metadata"):
            await connect(f"etcd://{member.host}/p")
        with pytest.raises(StoreUnavailable, match="certificate"):
            await connect(f"etcds://localhost:{member.host.partition(':')[2]}/p", ca_file=cert)


@pytest.mark.parametrize("text", [None, "no certificate"])
async def test_certificates_that_cannot_be_read_are_told(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(StoreUnavailable, match="cannot read") as refusal:
        await connect("etcds://127.0.0.1/p", ca_file=path)
    assert "metadata.ca_file" in refusal.value.hint


# several endpoints


@contextlib.asynccontextmanager
async def cut(member: Member) -> AsyncIterator[str]:
    """An address that passes requests on to *member* and hangs up when the answer comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = member.host.partition(":")
        answers, requests = await asyncio.open_connection(host, int(port))
        passing = asyncio.create_task(_pass(reader, requests))
        await answers.read(1)
        passing.cancel()
        requests.close()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield "127.0.0.1:{1}".format(*server.sockets[0].getsockname())


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)


async def test_a_commit_is_never_sent_twice(member: Member) -> None:
    store = await connect(f"etcd://{member.host}/p")
    async with cut(member) as broken:
        store._client._endpoints = (f"http://{broken}", f"http://{member.host}")
        with pytest.raises(StoreUnavailable):
            await store.commit([], [Put(b"a", b"")])
        assert writes(member, b"p/entry/a") == 1
        store._client._preferred = 0
        assert await keys(store) == [b"a"]
        assert store._client._preferred == 1
        await seed(store, b"b")
    assert writes(member, b"p/entry/b") == 1
    await store.close()


async def test_an_endpoint_that_refuses_is_passed_over(member: Member) -> None:
    store = await connect(f"etcd://127.0.0.1:{free_port()},{member.host}/p")
    for turn in range(2):
        store._client._preferred = 0
        await seed(store, b"%d" % turn)
    store._client._preferred = 0
    assert await keys(store) == [b"0", b"1"]
    await store.close()


async def test_a_host_that_is_gone_is_passed_over_even_by_commits(member: Member) -> None:
    """A socket whose queue is full answers no more than a host without power."""
    with contextlib.ExitStack() as opened:
        gone = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(gone.getsockname())
        store = await connect(f"etcd://{member.host}/p", seconds=1)
        address = "127.0.0.1:{1}".format(*gone.getsockname())
        store._client._endpoints = (f"http://{address}", f"http://{member.host}")
        await seed(store, b"a")
        assert store._client._preferred == 1
        assert await keys(store) == [b"a"]
        await store.close()


async def test_an_endpoint_that_is_silent_is_passed_over(member: Member) -> None:
    silence = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silence.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = await connect(f"etcd://127.0.0.1:{port},{member.host}/p", seconds=0.3)
        await seed(store, b"a")
        await store.close()
        silence.set()


async def test_a_member_without_a_leader_is_passed_over_by_reads(member: Member) -> None:
    said = b'{"error":"etcdserver: no leader","message":"etcdserver: no leader","code":14}'

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n" % len(said)
        writer.write(head + said)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = await connect(f"etcd://127.0.0.1:{port},{member.host}/p")
        store._client._preferred = 0
        with pytest.raises(StoreUnavailable, match="etcd: no leader"):
            await seed(store, b"a")
        await seed(store, b"b")
        store._client._preferred = 0
        assert await keys(store) == [b"b"]
        await store.close()


async def test_a_cluster_outlives_one_member_but_not_two(tmp_path: Path) -> None:
    with cluster(tmp_path) as members:
        hosts = ",".join(member.host for member in members)
        store = await connect(f"etcd://{hosts}/p", seconds=2)
        await seed(store, b"a")
        members[0].daemon.kill()
        await commit_until_it_lands(store, b"b")
        assert await keys(store) == [b"a", b"b"]
        for number in range(20):
            await seed(store, b"c%02d" % number)
        members[1].daemon.kill()
        for attempt in (store.get([b"a"]), store.commit([], [Put(b"d", b"")])):
            with pytest.raises(StoreUnavailable):
                await attempt
        await asyncio.to_thread(members[0].daemon.start)
        await commit_until_it_lands(store, b"e")
        assert {b"a", b"b", b"c19", b"e"} <= set(await keys(store))
        await store.close()


async def commit_until_it_lands(store: EtcdMetadata, key: bytes) -> None:
    """Try again as a client would while a leader is elected."""
    for _ in range(5):
        try:
            await seed(store, key)
        except StoreUnavailable:
            continue
        return
    pytest.fail("no commit lands")
