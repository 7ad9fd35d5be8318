"""Channels through the appr door."""

from __future__ import annotations

import asyncio

import pytest

from tests.http.appr import PACKAGES, chart, error, get, push
from tests.http.client import Client

WEB = f"{PACKAGES}/shop/web"


@pytest.fixture
async def shop(doors: Client) -> Client:
    """A server with three releases of one package."""
    for release in ("1.0.0", "1.1.0", "2.0.0-rc.1"):
        await push(doors, "shop/web", release, chart(version=release))
    return doors


async def test_a_channel_leads_to_what_it_was_set_to_last(shop: Client) -> None:
    for release in ("1.1.0", "2.0.0-rc.1", "1.0.0"):
        answer = await shop("POST", f"{WEB}/channels/beta/{release}")
        assert answer.status == 200
    channel = {
        "name": "beta",
        "current": "1.0.0",
        "releases": ["2.0.0-rc.1", "1.1.0", "1.0.0"],
    }
    assert answer.json() == channel
    assert await get(shop, "shop/web/channels/beta") == channel
    assert await get(shop, "shop/web/channels/") == [channel]
    assert (await get(shop, "shop/web/1.0.0/-"))["channels"] == ["beta"]
    assert (await get(shop, "shop/web/1.1.0/-"))["channels"] == []


async def test_leaving_makes_the_highest_of_the_rest_current(shop: Client) -> None:
    for release in ("2.0.0-rc.1", "1.1.0", "1.0.0"):
        await shop("POST", f"{WEB}/channels/beta/{release}")
    left = await shop("DELETE", f"{WEB}/channels/beta/1.1.0")
    assert left.json() == {
        "status": "deleted",
        "package": "shop/web",
        "name": "beta",
        "release": "1.1.0",
    }
    assert (await get(shop, "shop/web/channels/beta"))["current"] == "2.0.0-rc.1"
    for release in ("2.0.0-rc.1", "1.0.0"):
        await shop("DELETE", f"{WEB}/channels/beta/{release}")
    assert error(await shop("GET", f"{WEB}/channels/beta")) == (404, "channel-not-found")


async def test_a_channel_whose_release_is_deleted_goes_on_naming_it(shop: Client) -> None:
    for release in ("1.0.0", "1.1.0"):
        await shop("POST", f"{WEB}/channels/beta/{release}")
    await shop("DELETE", f"{WEB}/1.1.0/helm")
    dangling = {"name": "beta", "current": "1.1.0", "releases": ["1.0.0"]}
    assert await get(shop, "shop/web/channels/beta") == dangling
    await push(shop, "shop/web", "1.1.0", chart())
    assert await get(shop, "shop/web/channels/beta") == dangling
    assert (await get(shop, "shop/web/1.1.0/helm"))["channels"] == ["beta"]


async def test_the_channels_of_an_emptied_package_stay(shop: Client) -> None:
    await shop("POST", f"{WEB}/channels/beta/1.0.0")
    for release in ("1.0.0", "1.1.0", "2.0.0-rc.1"):
        await shop("DELETE", f"{WEB}/{release}/helm")
    assert await get(shop, "shop/web/channels") == [
        {"name": "beta", "current": "1.0.0", "releases": []}
    ]
    refused = await shop("POST", f"{WEB}/channels/beta/1.0.0")
    assert error(refused) == (404, "package-not-found")


async def test_a_deleted_channel_is_gone(shop: Client) -> None:
    await shop("POST", f"{WEB}/channels/beta/1.0.0")
    answer = await shop("DELETE", f"{WEB}/channels/beta")
    assert answer.json() == {"action": "delete", "channel": "beta", "package": "shop/web"}
    assert error(await shop("DELETE", f"{WEB}/channels/beta")) == (404, "channel-not-found")
    assert await get(shop, "shop/web/channels") == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "beta/9.9.9", 404, "package-release-not-found"),
        ("POST", "beta/default", 404, "package-release-not-found"),
        ("POST", "beta/1.0", 404, "package-release-not-found"),
        ("POST", "beta/v1.0.0", 422, "invalid-release"),
        ("POST", "1.0.0/1.0.0", 400, "invalid-usage"),
        ("POST", "9.0.0_b/1.0.0", 400, "invalid-usage"),
        ("POST", "a%20b/1.0.0", 400, "invalid-usage"),
        ("POST", "-/1.0.0", 400, "invalid-usage"),
        ("POST", f"{'x' * 129}/1.0.0", 400, "invalid-usage"),
        ("GET", "none", 404, "channel-not-found"),
        ("GET", "%C3%A9", 404, "channel-not-found"),
        ("DELETE", "none/1.0.0", 404, "channel-not-found"),
        ("DELETE", "lts/9.9.9", 404, "package-not-found"),
        ("DELETE", "lts/default", 404, "package-not-found"),
    ],
)
async def test_what_is_no_channel_or_release_is_refused(
    shop: Client, method: str, path: str, status: int, code: str
) -> None:
    await shop("POST", f"{WEB}/channels/lts/1.0.0")
    assert error(await shop(method, f"{WEB}/channels/{path}")) == (status, code)
    assert len(await get(shop, "shop/web/channels")) == 1


async def test_racing_settings_lose_no_member(shop: Client) -> None:
    releases = [f"3.0.{number}" for number in range(10)]
    for release in releases:
        await push(shop, "shop/web", release, chart(version=release))
    answers = await asyncio.gather(
        *(shop("POST", f"{WEB}/channels/beta/{release}") for release in releases)
    )
    assert {answer.status for answer in answers} == {200}
    channel = await get(shop, "shop/web/channels/beta")
    assert channel["releases"] == sorted(releases, reverse=True)
    assert channel["current"] in releases
