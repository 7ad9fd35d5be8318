"""What needs no Redis server: URLs, and the settings that lead to the driver."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ociappr import stores
from ociappr.config import ConfigError, load
from ociappr.metadata.redis_place import Place


def test_a_url_names_a_server_and_a_registry() -> None:
    place = Place.of("redis://redis.example")
    assert (place.host, place.port, place.database, place.name) == (
        "redis.example",
        6379,
        0,
        "ociappr",
    )
    assert (place.tls, place.user, place.password) == (False, None, None)
    assert place.key("value") == "{ociappr}:value"
    full = Place.of("rediss://me:a%2Fb@[::1]:7000/3?name=other")
    assert (full.host, full.port, full.database, full.name) == ("::1", 7000, 3, "other")
    assert (full.tls, full.user, full.password) == (True, "me", "a/b")


def test_the_password_of_the_settings_goes_first() -> None:
    assert Place.of("redis://me:old@host", password="new").password == "new"


def test_a_place_shows_no_password() -> None:
    place = Place.of("redis://me:hidden@host")
    assert "hidden" not in f"{place} {place!r}"


def test_a_url_that_is_none_is_told() -> None:
    with pytest.raises(ValueError, match="this reads redis://"):
        Place.of("redis://[host")


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis:///0",
        "redis://host/zero",
        "redis://host/0/1",
        "redis://host/-1",
        "redis://host?nam=a",
        "redis://host?name=",
        "redis://host?name={a}",
        "redis://host#a",
        "redis://host:port",
        "redis://:hidden#word@host",
        "redis://:hidden/word@host",
    ],
)
async def test_urls_that_cannot_be_are_told(url: str) -> None:
    loaded = load(flags={"metadata.url": url})
    with pytest.raises(ConfigError, match=r"metadata\.url: (name=|this reads redis://)") as refusal:
        await stores.open_metadata(loaded.config)
    assert "hidden" not in str(refusal.value)


def test_the_library_is_loaded_by_those_who_use_it() -> None:
    program = "import sys, ociappr.cli.main, ociappr.server; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


async def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("ociappr.metadata.redis")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis.asyncio.connection", None)
    loaded = load(flags={"metadata.url": "redis://host"})
    with pytest.raises(ConfigError, match=r"pip install 'ociappr\[redis\]'"):
        await stores.open_metadata(loaded.config)
