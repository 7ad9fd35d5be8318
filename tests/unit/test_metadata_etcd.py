"""What the etcd driver does before any etcd is there; conformance/stores has the rest."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from ociappr import stores
from ociappr.config import Config, ConfigError, MetadataSection, Secret
from ociappr.errors import StoreUnavailable
from ociappr.metadata.etcd import EtcdMetadata
from ociappr.metadata.etcd_client import Place


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("etcd://h:1/p", Place(("http://h:1",), "", "", b"p/")),
        ("etcds://h/p/q/", Place(("https://h:2379",), "", "", b"p/q/")),
        ("etcds://[::1]:3,b/p", Place(("https://[::1]:3", "https://b:2379"), "", "", b"p/")),
        ("etcd://me@h,i:2/p", Place(("http://h:2379", "http://i:2"), "me", "", b"p/")),
        ("etcd://m%40e:s%3Ae:c@h/%C3%A9", Place(("http://h:2379",), "m@e", "s:e:c", b"\xc3\xa9/")),
    ],
)
def test_a_url_names_endpoints_user_and_prefix(url: str, place: Place) -> None:
    assert Place.parse(url) == place


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("etcd://h", "it reads etcd://[USER@]HOST:PORT[,HOST:PORT...]/PREFIX"),
        ("etcds://h/", "it reads etcds://"),
        ("etcd://h/p?a=b", "it reads etcd://"),
        ("etcd://h/p#a", "it reads etcd://"),
        ("etcd://:secret@h/p", "it reads etcd://"),
        ("etcd:///p", "'' is no HOST:PORT"),
        ("etcd://a,,b/p", "'' is no HOST:PORT"),
        ("etcd://h:99999/p", "out of range"),
        ("etcd://h:x/p", "'x'"),
    ],
)
async def test_a_malformed_url_is_told(url: str, says: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        await stores.open_metadata(Config(metadata=MetadataSection(url=url)))
    assert "metadata.url: " in str(refusal.value)
    assert says in str(refusal.value)
    assert "secret" not in str(refusal.value)


async def test_a_password_needs_a_user() -> None:
    section = MetadataSection(url="etcd://127.0.0.1/p", password=Secret("secret"))
    with pytest.raises(ConfigError, match="a password, but no user"):
        await stores.open_metadata(Config(metadata=section))


@pytest.mark.parametrize("status", [b"200 OK", b"404 Not Found", b"302 Found\r\nLocation: /other"])
async def test_what_is_no_etcd_is_told(status: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 6\r\n\r\nhello\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StoreUnavailable, match=f"at http://127.0.0.1:{port}: ") as refusal:
            await EtcdMetadata.open(
                f"etcd://127.0.0.1:{port}/p",
                password="",
                ca_file="",
                connections=1,
                patience=timedelta(seconds=5),
            )
    assert "metadata.url must name etcd 3.4 or newer" in refusal.value.hint
