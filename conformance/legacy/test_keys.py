"""What holds the keys of an old store, spoken to by its own protocol: real servers, odd values."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from redis import Redis

from conformance.backends.daemon import Daemon, running
from conformance.legacy.original import ETCD_PORT, REDIS_PORT, etcd, own_address, redis
from conformance.stores.conftest import require
from ociappr.errors import StoreUnavailable
from ociappr.legacy import Lost
from ociappr.legacy.etcd import EtcdKeys
from ociappr.legacy.filesystem import FilesystemKeys
from ociappr.legacy.keyed import Keys
from ociappr.legacy.redis import RedisKeys

LIMIT = 1_000_000
DIGESTS = {"a" * 64, "b" * 64}

Write = Callable[[str, bytes], object]


@dataclass(frozen=True, slots=True)
class Place:
    """Where keys lie; *daemon* is the server that holds them, if one does."""

    write: Write
    open: Callable[[], Keys]
    daemon: Daemon | None = None


@contextmanager
def _files(directory: Path) -> Iterator[Place]:
    def write(key: str, value: bytes) -> None:
        (directory / key).parent.mkdir(parents=True, exist_ok=True)
        (directory / key).write_bytes(value)

    yield Place(write, lambda: FilesystemKeys(directory))


@contextmanager
def _redis(directory: Path) -> Iterator[Place]:
    require("redis-server")
    address = own_address()
    url = f"redis://{address}:{REDIS_PORT}"
    with running(redis(directory, address)) as daemon, Redis.from_url(url) as client:
        yield Place(client.set, lambda: RedisKeys(url), daemon)


@contextmanager
def _etcd(directory: Path) -> Iterator[Place]:
    require("etcd")
    address = own_address()

    def write(key: str, value: bytes) -> None:
        connection = http.client.HTTPConnection(address, ETCD_PORT)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"value": value})
        connection.request("PUT", f"/v2/keys/{quote(key)}", body, headers)
        assert connection.getresponse().status == 201
        connection.close()

    with running(etcd(directory, address)) as daemon:
        yield Place(write, lambda: EtcdKeys(f"http://{address}:{ETCD_PORT}"), daemon)


_PLACES = {"filesystem": _files, "redis": _redis, "etcd": _etcd}


@pytest.fixture(params=list(_PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with _PLACES[request.param](tmp_path) as found:
        yield found


async def test_values_come_as_they_are(place: Place) -> None:
    place.write("appr/packages/a/b/x", b"line\nline\n")
    keys = place.open()
    assert await keys.get("appr/packages/a/b/x", limit=LIMIT) == b"line\nline\n"
    for absent in ("appr/packages/a/b/y", "appr/packages/c/d/x", "appr/packages/a/b/x/y"):
        assert await keys.get(absent, limit=LIMIT) is None
    await keys.close()


async def test_values_have_a_limit(place: Place) -> None:
    place.write("large", b"\n" * 100_001)
    keys = place.open()
    value = await keys.get("large", limit=100_001)
    assert value == b"\n" * 100_001
    with pytest.raises(Lost, match="more than 100000"):
        await keys.get("large", limit=100_000)
    place.write("huge", b"\n" * 400_000)
    with pytest.raises(Lost, match="more than"):
        await keys.get("huge", limit=100_000)
    await keys.close()


async def test_packages_are_what_has_releases(place: Place) -> None:
    for key in ("a/b/releases.json", "a/c/releases.json", "d/e/releases.json"):
        place.write(f"appr/packages/{key}", b"{}")
    for key in (
        "packages.json",
        "releases.json",
        "a/releases.json",
        "a/empty/digests/sha256/x",
        "a/b/c/releases.json",
        "a/lock/releases.json.lock",
    ):
        place.write(f"appr/packages/{key}", b"{}")
    place.write("other/packages/x/y/releases.json", b"{}")
    keys = place.open()
    assert set(await keys.packages("appr/packages/")) == {"a/b", "a/c", "d/e"}
    await keys.close()


async def test_a_prefix_is_no_pattern(place: Place) -> None:
    place.write("a[bc]*?/x/y/releases.json", b"{}")
    place.write("abxx/x/y/releases.json", b"{}")
    keys = place.open()
    assert set(await keys.packages("a[bc]*?/")) == {"x/y"}
    await keys.close()


async def test_archives_are_listed_without_being_held(place: Place) -> None:
    for digest in DIGESTS:
        place.write(f"appr/packages/a/b/digests/sha256/{digest}", b'"key":"\n' * 100_000)
    place.write(f"appr/packages/a/c/digests/sha256/{'c' * 64}", b"x")
    keys = place.open()
    assert set(await keys.archives("appr/packages/a/b/digests/sha256/")) == DIGESTS
    assert not await keys.archives("appr/packages/a/d/digests/sha256/")
    await keys.close()


async def test_no_archive_is_lost_between_the_blocks_of_an_answer(place: Place) -> None:
    names = {f"{number:064x}" for number in range(1_500)}
    for name in names:
        place.write(f"a/{name}", b"x")
    keys = place.open()
    assert set(await keys.archives("a/")) == names
    await keys.close()


@pytest.mark.parametrize("place", ["redis", "etcd"], indirect=True)
async def test_a_server_that_ends_is_told(place: Place) -> None:
    assert place.daemon is not None
    keys = place.open()
    assert await keys.get("x", limit=LIMIT) is None
    place.daemon.kill()
    for look in (
        lambda: keys.get("x", limit=LIMIT),
        lambda: keys.packages(""),
        lambda: keys.archives("a/b/"),
    ):
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await look()
    await keys.close()


async def test_another_kind_of_value_in_redis_is_lost(tmp_path: Path) -> None:
    require("redis-server")
    address = own_address()
    url = f"redis://{address}:{REDIS_PORT}"
    with running(redis(tmp_path, address)), Redis.from_url(url) as client:
        client.hset("x", "field", "value")
        keys = RedisKeys(url)
        with pytest.raises(Lost, match="x cannot be read"):
            await keys.get("x", limit=LIMIT)
        await keys.close()


async def test_a_directory_in_etcd_is_lost(tmp_path: Path) -> None:
    with _etcd(tmp_path) as place:
        place.write("a/b", b"x")
        keys = place.open()
        with pytest.raises(Lost, match="a is a directory"):
            await keys.get("a", limit=LIMIT)
        await keys.close()


async def test_an_etcd_without_its_first_api_is_told(tmp_path: Path) -> None:
    require("etcd")
    address = own_address()
    daemon = etcd(tmp_path, address)
    daemon.argv = [word for word in daemon.argv if word != "--enable-v2"]
    with running(daemon):
        keys = EtcdKeys(f"http://{address}:{ETCD_PORT}")
        with pytest.raises(StoreUnavailable) as raised:
            await keys.get("x", limit=LIMIT)
        await keys.close()
    assert "does not serve /v2/keys: status 404" in raised.value.message
    assert "--enable-v2" in raised.value.hint
