"""Tags that do not move: by the built-in rule and by configured ones, seen through both doors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ociappr.descriptor import EMPTY_BYTES
from ociappr.digest import Digest
from ociappr.media import OCI_MANIFEST
from ociappr.names import RepositoryName
from ociappr.registry import Registry, Settings
from ociappr.registry.patterns import RepositoryPattern, TagPattern, VersionRange
from ociappr.registry.rules import ImmutableRule
from tests.http.appr import PACKAGES, error, push, tgz
from tests.http.client import Answer, Client, image

RULES = (
    ImmutableRule(repositories=(RepositoryPattern("lib/*"),), tags=(TagPattern("v*"),)),
    ImmutableRule(
        repositories=(RepositoryPattern("shop/**"),),
        tags=(TagPattern("fixed"),),
        versions=VersionRange(">=1.0"),
    ),
)


@pytest.fixture
def settings() -> Settings:
    return Settings(immutable=RULES)


async def put(doors: Client, reference: str, number: int) -> Answer:
    """Push one of several images under ``repository:tag``."""
    repository, _, tag = reference.partition(":")
    url = f"/v2/{repository}/blobs/uploads/?digest={Digest.of(EMPTY_BYTES)}"
    assert (await doors("POST", url, EMPTY_BYTES)).status == 201
    raw = image(annotations={"number": f"{number}"})
    headers = {"Content-Type": OCI_MANIFEST}
    return await doors("PUT", f"/v2/{repository}/manifests/{tag}", raw, headers=headers)


def denied(answer: Answer) -> dict[str, Any]:
    """Return the error of an answer that is 403 DENIED."""
    assert answer.status == 403
    (found,) = json.loads(answer.body)["errors"]
    assert found["code"] == "DENIED"
    return dict(found)


async def test_an_immutable_tag_does_not_move(doors: Client) -> None:
    assert (await put(doors, "lib/a:v1", 1)).status == 201
    refused = denied(await put(doors, "lib/a:v1", 2))
    assert refused["message"] == "lib/a:v1 is immutable by the rule immutable[0]"
    assert "push under another tag" in refused["detail"]
    assert (await put(doors, "lib/a:v1", 1)).status == 201
    for free in ("lib/a:latest", "lib/a/b:v1", "other/a:v1", "shop/a:0.9.0", "shop/a:1.0.0-rc.1"):
        assert (await put(doors, free, 1)).status == 201
        assert (await put(doors, free, 2)).status == 201, free


@pytest.mark.parametrize("tag", ["fixed", "1.0.0", "v2.1.0"])
async def test_an_immutable_tag_is_not_deleted(doors: Client, registry: Registry, tag: str) -> None:
    digest = (await put(doors, f"shop/a:{tag}", 1)).headers["Docker-Content-Digest"]
    await put(doors, "shop/a:also", 1)
    denied(await doors("DELETE", f"/v2/shop/a/manifests/{tag}"))
    denied(await doors("DELETE", f"/v2/shop/a/manifests/{digest}"))
    kept = await registry.tags.of_manifest(RepositoryName("shop/a"), Digest.parse(digest))
    assert set(kept) == {tag, "also"}, "no tag goes where one may not"


async def test_the_built_in_rule_is_about_releases_of_the_appr_door(doors: Client) -> None:
    assert (await push(doors, "free/a", "1.0.0", tgz({"f": b"1"}), "kpm")).status == 200
    refused = denied(await put(doors, "free/a:1.0.0", 2))
    assert "published release" in refused["message"]
    assert "force" in refused["detail"]
    assert (await doors("DELETE", "/v2/free/a/manifests/1.0.0")).status == 202
    assert (await put(doors, "free/a:1.0.0", 2)).status == 201


async def test_a_configured_rule_is_stronger_than_force(doors: Client) -> None:
    one, two = tgz({"f": b"1"}), tgz({"f": b"2"})
    assert (await push(doors, "shop/a", "1.0.0", one, "kpm")).status == 200
    assert error(await push(doors, "shop/a", "1.0.0", two, "kpm")) == (409, "package-exists")
    forced = await push(doors, "shop/a", "1.0.0", two, "kpm", force=True)
    assert error(forced) == (409, "package-exists")
    assert b"immutable[1]" in forced.body
    other = await push(doors, "shop/a", "1.0.0", two, "helm")
    assert error(other) == (409, "package-exists")
    deleted = await doors("DELETE", f"{PACKAGES}/shop/a/1.0.0/kpm")
    assert error(deleted) == (409, "package-exists")
    denied(await put(doors, "shop/a:1.0.0", 3))
    pulled = await doors("GET", f"{PACKAGES}/shop/a/1.0.0/kpm/pull")
    assert pulled.body == one


async def test_a_channel_moves_whatever_its_name(doors: Client) -> None:
    for release in ("0.1.0", "0.2.0"):
        data = tgz({"f": release.encode()})
        assert (await push(doors, "shop/a", release, data, "kpm")).status == 200
        answer = await doors("POST", f"{PACKAGES}/shop/a/channels/fixed/{release}")
        assert answer.status == 200
    assert (await doors("DELETE", "/v2/shop/a/manifests/fixed")).status == 202


async def test_no_channel_takes_the_name_of_an_immutable_tag(doors: Client) -> None:
    assert (await push(doors, "shop/a", "0.1.0", tgz({"f": b"1"}), "kpm")).status == 200
    raw = await doors("GET", "/v2/shop/a/manifests/0.1.0")
    headers = {"Content-Type": OCI_MANIFEST}
    again = await doors("PUT", "/v2/shop/a/manifests/fixed", raw.body, headers=headers)
    assert again.status == 201
    answer = await doors("POST", f"{PACKAGES}/shop/a/channels/fixed/0.1.0")
    assert error(answer) == (409, "package-exists")
