"""Both doors on one truth: what goes in through one is at once right through the other."""

from __future__ import annotations

import gzip
import hashlib
import json
from typing import Any

import pytest

from ociappr.descriptor import EMPTY, EMPTY_BYTES, Descriptor
from ociappr.digest import Digest
from ociappr.manifest import encode
from ociappr.media import HELM_CHART, HELM_CONFIG, OCI_INDEX, OCI_MANIFEST
from tests.http.appr import PACKAGES, chart, error, get, push, tgz
from tests.http.client import Client, image, index, push_blob, push_image, push_manifest

WEB = f"{PACKAGES}/shop/web"
V2 = "/v2/shop/web"
ARTIFACT = "application/vnd.appr.package-manifest.{}.v0.json"
CONTENT_DIGEST = "vnd.appr.content.digest"


def content_digest(archive: bytes) -> str:
    return hashlib.sha256(gzip.decompress(archive)).hexdigest()


def helm_manifest(data: bytes, config: bytes, **annotations: str) -> bytes:
    """Return what ``helm push`` makes of a chart."""
    return encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": Descriptor(HELM_CONFIG, Digest.of(config), len(config)).document(),
            "layers": [Descriptor(HELM_CHART, Digest.of(data), len(data)).document()],
            "annotations": annotations,
        }
    )


async def helm_push(doors: Client, tag: str, data: bytes, repository: str = "shop/web") -> Digest:
    """Push a chart as Helm does."""
    config = b'{"name":"web","version":"1.0.0","apiVersion":"v2"}'
    await push_blob(doors, repository, config)
    await push_blob(doors, repository, data)
    created = {"org.opencontainers.image.created": "2024-05-06T07:08:09+02:00"}
    return await push_manifest(doors, repository, helm_manifest(data, config, **created), tag)


async def manifest(doors: Client, reference: str, **headers: str) -> Any:  # noqa: ANN401 - JSON
    """Return the manifest under *reference* as a document."""
    answer = await doors("GET", f"{V2}/manifests/{reference}", headers=headers)
    assert answer.status == 200, answer.body
    document: Any = answer.json()
    assert answer.headers["Content-Type"] == document["mediaType"]
    assert answer.headers["Docker-Content-Digest"] == str(Digest.of(answer.body))
    return document


async def tags(doors: Client) -> list[str]:
    """Return the tags that the other door lists."""
    answer: Any = (await doors("GET", f"{V2}/tags/list")).json()
    return list(answer["tags"])


# -- in through OCI ------------------------------------------------------------------------------


async def test_a_helm_push_is_a_release(doors: Client) -> None:
    data = chart()
    await helm_push(doors, "1.2.0_b1", data)
    shown = await get(doors, "shop/web/default/-")
    digest = hashlib.sha256(data).hexdigest()
    assert (shown["release"], shown["content"]["digest"]) == ("1.2.0+b1", digest)
    assert shown["created_at"] == "2024-05-06T05:08:09.000000"
    assert shown["metadata"] is None
    (listed,) = await get(doors, "?media_type=helm")
    assert (listed["name"], listed["releases"]) == ("shop/web", ["1.2.0+b1"])
    for path in ("1.2.0+b1/helm/pull", f"blobs/sha256/{digest}"):
        assert (await doors("GET", f"{WEB}/{path}")).body == data


async def test_an_artifact_of_appr_s_types_is_a_release(doors: Client) -> None:
    data = tgz({"manifest.yaml": b"kind: x"})
    raw = encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": ARTIFACT.format("kpm"),
            "config": EMPTY.document(),
            "layers": [Descriptor("application/x-tar", Digest.of(data), len(data)).document()],
            "annotations": {
                CONTENT_DIGEST: content_digest(data),
                "vnd.appr.metadata": '{"a": 1}',
                "org.opencontainers.image.created": "long ago",
            },
        }
    )
    await push_blob(doors, "shop/web", EMPTY_BYTES)
    await push_blob(doors, "shop/web", data)
    await push_manifest(doors, "shop/web", raw, "1.0.0")
    shown = await get(doors, "shop/web/1.0.0/kpm")
    assert shown["content"]["digest"] == content_digest(data)
    assert shown["metadata"] == {"a": 1}
    assert shown["created_at"] > "2025"
    assert (await doors("GET", f"{WEB}/1.0.0/-/pull")).body == data


@pytest.mark.parametrize("text", ["", "{broken", "NaN", "[" * 100_000])
async def test_metadata_that_is_no_json_is_not_shown(doors: Client, text: str) -> None:
    data, config = chart(), b'{"name":"web","version":"1.0.0"}'
    await push_blob(doors, "shop/web", config)
    await push_blob(doors, "shop/web", data)
    raw = helm_manifest(data, config, **{"vnd.appr.metadata": text})
    await push_manifest(doors, "shop/web", raw, "1.0.0")
    assert (await get(doors, "shop/web/1.0.0/-"))["metadata"] is None


async def test_a_false_content_digest_is_refused(doors: Client) -> None:
    data, config = chart(), b'{"name":"web","version":"1.0.0"}'
    await push_blob(doors, "shop/web", config)
    await push_blob(doors, "shop/web", data)
    for claim in ("0" * 64, "sha256:" + "0" * 64):
        raw = helm_manifest(data, config, **{CONTENT_DIGEST: claim})
        answer = await doors(
            "PUT", f"{V2}/manifests/1.0.0", raw, headers={"Content-Type": OCI_MANIFEST}
        )
        assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")
    raw = helm_manifest(data, config, **{CONTENT_DIGEST: content_digest(data)})
    await push_manifest(doors, "shop/web", raw, "1.0.0")
    assert (await get(doors, "shop/web/1.0.0/-"))["content"]["digest"] == content_digest(data)


async def test_an_image_is_no_release(doors: Client) -> None:
    layer = tgz({"bin/sh": b"x"})
    await push_blob(doors, "shop/web", layer)
    await push_image(doors, "shop/web", image(layer), "1.2.0")
    assert await get(doors, "") == []
    assert await get(doors, "shop/web") == []
    assert error(await doors("GET", f"{WEB}/1.2.0/-/pull")) == (404, "package-not-found")
    assert error(await push(doors, "shop/web", "1.2.0", chart())) == (409, "package-exists")
    assert (await push(doors, "shop/web", "1.2.0", chart(), force="true")).status == 200
    assert (await doors("GET", f"{WEB}/1.2.0/-/pull")).body == chart()


async def test_a_chart_under_a_name_that_is_no_release_or_package_is_not_shown(
    doors: Client,
) -> None:
    await helm_push(doors, "latest", chart())
    await helm_push(doors, "1.0.0", chart(), "shop/web/deep")
    await helm_push(doors, "1.0.0", chart(), "web")
    assert await get(doors, "") == []


async def test_a_layer_is_found_only_where_it_was_pushed(doors: Client) -> None:
    await helm_push(doors, "1.0.0", chart())
    await push(doors, "shop/db", "1.0.0", chart("db"))
    digest = hashlib.sha256(chart()).hexdigest()
    answer = await doors("GET", f"{PACKAGES}/shop/db/blobs/sha256/{digest}")
    assert error(answer) == (404, "package-not-found")


# -- in through appr -----------------------------------------------------------------------------


async def test_a_chart_becomes_what_helm_pulls(doors: Client) -> None:
    data = chart("web", "1.0.0+b1", **{"values.yaml": b"a: 1\n"})
    await push(doors, "shop/web", "1.0.0+b1", data, metadata={"x": "é"})
    found = await manifest(doors, "1.0.0_b1")
    assert found["mediaType"] == OCI_MANIFEST
    assert found["config"]["mediaType"] == HELM_CONFIG
    (layer,) = found["layers"]
    assert (layer["mediaType"], layer["size"]) == (HELM_CHART, len(data))
    config = await doors("GET", f"{V2}/blobs/{found['config']['digest']}")
    assert config.json() == {"apiVersion": "v2", "name": "web", "version": "1.0.0+b1"}
    assert (await doors("GET", f"{V2}/blobs/{layer['digest']}")).body == data
    annotations = found["annotations"]
    assert annotations[CONTENT_DIGEST] == content_digest(data)
    assert json.loads(annotations["vnd.appr.metadata"]) == {"x": "é"}


@pytest.mark.parametrize(
    ("format_", "data"),
    [
        ("kpm", chart()),
        ("helm", tgz({"bundle-1/bundle.yaml": b"data: {}"})),
        ("helm", tgz({"web/Chart.yaml": b"name: &n web\nversion: *n\n"})),
        ("helm", tgz({"Chart.yaml": b"name: web\nversion: 1.0.0\n"})),
    ],
)
async def test_other_packages_become_artifacts(doors: Client, format_: str, data: bytes) -> None:
    await push(doors, "shop/web", "1.0.0", data, format_)
    found = await manifest(doors, "1.0.0")
    assert found["artifactType"] == ARTIFACT.format(format_)
    assert found["config"] == EMPTY.document()
    (layer,) = found["layers"]
    title = f"shop_web_1.0.0_{format_}.tar.gz"
    assert layer["annotations"] == {"org.opencontainers.image.title": title}
    assert (await doors("GET", f"{V2}/blobs/{layer['digest']}")).body == data


async def test_two_formats_are_an_index_and_one_is_not(doors: Client) -> None:
    await push(doors, "shop/web", "1.0.0", chart(), "kpm")
    kpm = await manifest(doors, "1.0.0")
    await push(doors, "shop/web", "1.0.0", chart(), "helm")
    found = await manifest(doors, "1.0.0")
    assert found["mediaType"] == OCI_INDEX
    types = [entry.get("artifactType") for entry in found["manifests"]]
    assert types == [HELM_CONFIG, ARTIFACT.format("kpm")]
    for entry in found["manifests"]:
        await manifest(doors, entry["digest"])
    await doors("DELETE", f"{WEB}/1.0.0/helm")
    assert await manifest(doors, "1.0.0") == kpm
    assert (await manifest(doors, found["manifests"][0]["digest"]))["layers"]


async def test_a_client_that_cannot_follow_an_index_gets_the_chart(doors: Client) -> None:
    await push(doors, "shop/web", "1.0.0", chart(), "a-type")
    await push(doors, "shop/web", "1.0.0", chart(), "helm")
    for headers in ({"Accept": OCI_MANIFEST}, {"User-Agent": "Helm/3.18.4", "Accept": OCI_INDEX}):
        assert (await manifest(doors, "1.0.0", **headers))["config"]["mediaType"] == HELM_CONFIG
        head = await doors("HEAD", f"{V2}/manifests/1.0.0", headers=headers)
        assert head.headers["Content-Type"] == OCI_MANIFEST
    assert (await manifest(doors, "1.0.0", Accept=OCI_INDEX))["mediaType"] == OCI_INDEX


async def test_the_same_formats_make_the_same_index(doors: Client) -> None:
    for package in ("one", "two"):
        for format_ in ("helm", "kpm") if package == "one" else ("kpm", "helm"):
            await push(doors, f"shop/{package}", "1.0.0", chart(), format_)
    orders = []
    for package in ("one", "two"):
        answer: Any = (await doors("GET", f"/v2/shop/{package}/manifests/1.0.0")).json()
        orders.append([entry["artifactType"] for entry in answer["manifests"]])
    assert orders[0] == orders[1]


# -- immutability --------------------------------------------------------------------------------


async def test_a_published_release_is_immutable_through_oci(doors: Client) -> None:
    await push(doors, "shop/web", "1.0.0", chart())
    before = await doors("GET", f"{V2}/manifests/1.0.0")
    headers = {"Content-Type": OCI_MANIFEST}
    again = await doors("PUT", f"{V2}/manifests/1.0.0", before.body, headers=headers)
    assert again.status == 201
    await push_blob(doors, "shop/web", EMPTY_BYTES)
    other = await doors("PUT", f"{V2}/manifests/1.0.0", image(), headers=headers)
    assert (other.status, other.code) == (403, "DENIED")
    assert "force" in other.body.decode()
    assert (await doors("GET", f"{V2}/manifests/1.0.0")).body == before.body


async def test_a_release_from_oci_is_mutable_there_and_not_here(doors: Client) -> None:
    await helm_push(doors, "1.0.0", chart())
    assert error(await push(doors, "shop/web", "1.0.0", chart())) == (409, "package-exists")
    second = chart(version="1.0.1")
    await helm_push(doors, "1.0.0", second)
    assert (await doors("GET", f"{WEB}/1.0.0/helm/pull")).body == second
    third = chart(version="1.0.2")
    assert (await push(doors, "shop/web", "1.0.0", third, force="true")).status == 200
    refused = await doors(
        "PUT", f"{V2}/manifests/1.0.0", image(), headers={"Content-Type": OCI_MANIFEST}
    )
    assert refused.status in (400, 403)
    assert (await doors("GET", f"{WEB}/1.0.0/helm/pull")).body == third


async def test_a_format_joins_a_release_from_oci(doors: Client) -> None:
    digest = await helm_push(doors, "1.0.0", chart())
    await push(doors, "shop/web", "1.0.0", chart(), "kpm")
    found = await manifest(doors, "1.0.0")
    assert str(digest) in {entry["digest"] for entry in found["manifests"]}
    assert {one["mediaType"] for one in await get(doors, "shop/web/1.0.0")} == {
        ARTIFACT.format("helm"),
        ARTIFACT.format("kpm"),
    }


async def test_an_index_with_other_content_is_not_rebuilt_unless_forced(doors: Client) -> None:
    digest = await helm_push(doors, "latest", chart())
    helm = (await doors("GET", f"{V2}/manifests/{digest}")).body
    await push_image(doors, "shop/web", image())
    await push_manifest(doors, "shop/web", index(helm, image()), "1.0.0", OCI_INDEX)
    assert [one["release"] for one in await get(doors, "shop/web")] == ["1.0.0"]
    refused = await push(doors, "shop/web", "1.0.0", chart(), "kpm")
    assert error(refused) == (409, "package-exists")
    assert (await push(doors, "shop/web", "1.0.0", chart(), "kpm", force="true")).status == 200
    assert len((await manifest(doors, "1.0.0"))["manifests"]) == 2


# -- channels ------------------------------------------------------------------------------------


async def test_a_channel_is_a_tag_that_follows_its_release(doors: Client) -> None:
    for release in ("1.0.0", "1.1.0"):
        await push(doors, "shop/web", release, chart(version=release))
    await doors("POST", f"{WEB}/channels/stable/1.0.0")
    assert await manifest(doors, "stable") == await manifest(doors, "1.0.0")
    assert await tags(doors) == ["1.0.0", "1.1.0", "stable"]
    await push(doors, "shop/web", "1.0.0", chart(), "kpm")
    assert await manifest(doors, "stable") == await manifest(doors, "1.0.0")
    await doors("POST", f"{WEB}/channels/stable/1.1.0")
    assert await manifest(doors, "stable") == await manifest(doors, "1.1.0")
    await doors("DELETE", f"{WEB}/1.1.0/helm")
    assert (await doors("GET", f"{V2}/manifests/stable")).status == 404
    assert await tags(doors) == ["1.0.0"]


async def test_an_oci_push_of_a_release_moves_a_channel(doors: Client) -> None:
    for release in ("1.0.0", "1.1.0"):
        await push(doors, "shop/web", release, chart(version=release))
    await doors("POST", f"{WEB}/channels/stable/1.0.0")
    raw = (await doors("GET", f"{V2}/manifests/1.1.0")).body
    await push_manifest(doors, "shop/web", raw, "stable")
    channel = await get(doors, "shop/web/channels/stable")
    assert channel == {"name": "stable", "current": "1.1.0", "releases": ["1.1.0", "1.0.0"]}
    await push_image(doors, "shop/web", image(), "stable")
    assert await get(doors, "shop/web/channels") == []
    assert (await doors("GET", f"{V2}/manifests/stable")).body == image()


async def test_an_oci_delete_of_a_channel_is_seen(doors: Client) -> None:
    await push(doors, "shop/web", "1.0.0", chart())
    await doors("POST", f"{WEB}/channels/stable/1.0.0")
    assert (await doors("DELETE", f"{V2}/manifests/stable")).status == 202
    assert await get(doors, "shop/web/channels") == []
    assert len(await get(doors, "shop/web")) == 1


async def test_a_channel_takes_over_a_tag_only_if_that_is_a_release(doors: Client) -> None:
    await push(doors, "shop/web", "1.0.0", chart())
    await push(doors, "shop/web", "2.0.0", chart(version="2.0.0"))
    await push_image(doors, "shop/web", image(), "stable")
    assert await get(doors, "shop/web/channels") == []
    refused = await doors("POST", f"{WEB}/channels/stable/1.0.0")
    assert error(refused) == (409, "package-exists")
    raw = (await doors("GET", f"{V2}/manifests/2.0.0")).body
    await push_manifest(doors, "shop/web", raw, "stable")
    assert (await doors("POST", f"{WEB}/channels/stable/1.0.0")).status == 200
    assert await manifest(doors, "stable") == await manifest(doors, "1.0.0")


# -- deletes -------------------------------------------------------------------------------------


async def test_an_oci_delete_of_a_tag_deletes_the_release(doors: Client) -> None:
    await push(doors, "shop/web", "1.0.0", chart())
    assert (await doors("DELETE", f"{V2}/manifests/1.0.0")).status == 202
    assert await get(doors, "shop/web") == []
    assert (await push(doors, "shop/web", "1.0.0", chart())).status == 200


async def test_an_oci_delete_by_digest_deletes_the_release(doors: Client) -> None:
    await push(doors, "shop/web", "1.0.0", chart())
    head = await doors("HEAD", f"{V2}/manifests/1.0.0")
    deleted = await doors("DELETE", f"{V2}/manifests/{head.headers['Docker-Content-Digest']}")
    assert deleted.status == 202
    assert await get(doors, "shop/web") == []
    content = await doors("GET", f"{WEB}/blobs/sha256/{content_digest(chart())}")
    assert error(content) == (404, "package-not-found")


async def test_an_oci_delete_of_one_member_deletes_its_format(doors: Client) -> None:
    for format_ in ("helm", "kpm"):
        await push(doors, "shop/web", "1.0.0", chart(), format_)
    helm = (await manifest(doors, "1.0.0"))["manifests"][0]["digest"]
    await doors("DELETE", f"{V2}/manifests/{helm}")
    (shown,) = await get(doors, "shop/web/1.0.0")
    assert shown["mediaType"] == ARTIFACT.format("kpm")
    (listed,) = await get(doors, "")
    assert listed["manifests"] == ["kpm"]
    await push(doors, "shop/web", "1.0.0", chart(), "other")
    assert len((await manifest(doors, "1.0.0"))["manifests"]) == 2
    assert (await push(doors, "shop/web", "1.0.0", chart(), "helm")).status == 200
    for format_ in ("kpm", "helm", "other"):
        assert (await doors("DELETE", f"{WEB}/1.0.0/{format_}")).status == 200
    assert await tags(doors) == []


async def test_an_appr_delete_takes_the_tag_and_leaves_the_manifest(doors: Client) -> None:
    await push(doors, "shop/web", "1.0.0", chart())
    raw = (await doors("GET", f"{V2}/manifests/1.0.0")).body
    await doors("DELETE", f"{WEB}/1.0.0/helm")
    assert (await doors("GET", f"{V2}/manifests/1.0.0")).status == 404
    assert (await doors("GET", f"{V2}/manifests/{Digest.of(raw)}")).body == raw


async def test_an_oci_delete_of_the_layer_is_a_missing_package(doors: Client) -> None:
    await push(doors, "shop/web", "1.0.0", chart())
    await doors("DELETE", f"{V2}/blobs/{Digest.of(chart())}")
    for path in ("1.0.0/helm/pull", f"blobs/sha256/{content_digest(chart())}"):
        assert error(await doors("GET", f"{WEB}/{path}")) == (404, "package-not-found")
