"""Push, show, list and pull over real connections, with and without a prefix."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
from typing import Any

import pytest

from ociappr.access import OpenAccess
from ociappr.appr_api.application import install
from ociappr.appr_api.handlers import ApprAPI, Limits
from ociappr.errors import Contended, StoreFull, StoreUnavailable
from ociappr.registry import Registry
from tests.http.appr import PACKAGES, chart, error, get, push, tar, tgz
from tests.http.client import Client, on_both_stores
from tests.http.conftest import Serve

LARGE = tgz({"web/data": bytes(range(256)) * 4000}, level=0)


def content_digest(archive: bytes) -> str:
    return hashlib.sha256(gzip.decompress(archive)).hexdigest()


@pytest.fixture(params=["", "/cnr", "/appr"])
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@on_both_stores
async def test_a_pushed_package_comes_back_byte_for_byte(doors: Client, prefix: str) -> None:
    for number, data in enumerate((chart(), LARGE, tgz({}))):
        release = f"1.{number}.0"
        assert (await push(doors, "shop/web", release, data)).json() == {"status": "ok"}
        base = f"{prefix}{PACKAGES}/shop/web"
        pulled = await doors("GET", f"{base}/{release}/helm/pull")
        assert (pulled.status, pulled.body) == (200, data)
        assert pulled.headers["Content-Type"] == "application/x-gzip"
        assert pulled.headers["Content-Disposition"] == f"shop_web_{release}.tar.gz"
        assert "Content-Encoding" not in pulled.headers
        for digest in (content_digest(data), hashlib.sha256(data).hexdigest()):
            blob = await doors("GET", f"{base}/blobs/sha256/{digest}")
            assert (blob.status, blob.body) == (200, data)
            assert blob.headers["Content-Disposition"] == f"shop_web_{digest[:8]}.tar.gz"


@on_both_stores
@pytest.mark.parametrize("size", [0, 1, 2, 3, 250_000])
async def test_json_pulls_have_a_length_and_hold_the_archive(doors: Client, size: int) -> None:
    data = tgz({"web/data": b"x" * size}, level=0)
    await push(doors, "shop/web", "1.0.0", data, "kpm")
    for path in ("1.0.0/kpm/pull?format=json", "1.0.0/-/pull/json"):
        answer = await doors("GET", f"{PACKAGES}/shop/web/{path}")
        assert answer.json() == {
            "package": "shop/web",
            "release": "1.0.0",
            "media_type": "kpm",
            "filename": "shop_web_1.0.0.tar.gz",
            "blob": base64.b64encode(data).decode(),
        }
        assert answer.headers["Content-Length"] == str(len(answer.body))
        head = await doors("HEAD", f"{PACKAGES}/shop/web/{path}")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["Content-Length"] == answer.headers["Content-Length"]


async def test_a_blob_in_json_is_called_by_its_digest(doors: Client) -> None:
    await push(doors, "shop/web", "1.0.0", chart())
    digest = content_digest(chart())
    document = await get(doors, f"shop/web/blobs/sha256/{digest}/json")
    assert document == {
        "package": "shop/web",
        "release": digest,
        "filename": f"shop_web_{digest[:8]}.tar.gz",
        "blob": base64.b64encode(chart()).decode(),
    }


async def test_a_package_is_shown_as_the_original_did(doors: Client) -> None:
    metadata = {"maintainers": [{"name": "Ann"}], "source": ["é"], "big": 10**30}
    await push(doors, "shop/web", "1.0.0", chart(), metadata=metadata)
    await doors("POST", f"{PACKAGES}/shop/web/channels/beta/1.0.0")
    shown = await get(doors, "shop/web/default/-")
    created = shown.pop("created_at")
    assert len(created) == len("2017-03-01T10:11:12.123456")
    assert shown == {
        "channels": ["beta"],
        "package": "shop/web",
        "release": "1.0.0",
        "mediaType": "application/vnd.appr.package-manifest.helm.v0.json",
        "metadata": metadata,
        "content": {
            "digest": content_digest(chart()),
            "mediaType": "application/vnd.appr.package.helm.v0.tar+gzip",
            "size": len(chart()),
            "urls": [],
        },
    }
    del shown["channels"]
    assert await get(doors, "shop/web") == [{**shown, "created_at": created}]
    assert await get(doors, "shop/web/1.0.0") == [{**shown, "created_at": created}]


async def test_a_list_shows_the_highest_release_first(doors: Client) -> None:
    for release, format_ in (("1.9.0", "helm"), ("1.10.0", "kpm"), ("1.10.0-rc", "helm")):
        await push(doors, "shop/web", release, chart(), format_)
    await push(doors, "shop/db", "0.1.0", chart())
    await push(doors, "store/web", "0.1.0", chart())
    found: Any = await get(doors, "?namespace=shop")
    for one in found:
        assert one.pop("created_at") > "20"
    db = {"name": "shop/db", "default": "0.1.0", "releases": ["0.1.0"], "manifests": ["helm"]}
    web = {"name": "shop/web", "default": "1.10.0", "manifests": ["kpm"]}
    web = {**web, "releases": ["1.10.0", "1.10.0-rc", "1.9.0"]}
    assert found == [{**db, "visibility": "public"}, {**web, "visibility": "public"}]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["shop/db", "shop/web", "store/web"]),
        ("namespace=shop", ["shop/db", "shop/web"]),
        ("namespace=sho", []),
        ("namespace=", []),
        ("namespace=%00", []),
        ("media_type=kpm", ["shop/web"]),
        ("media_type=", []),
        ("query=web", ["shop/web", "store/web"]),
        ("query=p/w", ["shop/web"]),
        ("query=WEB", []),
        ("query=.*", []),
        ("query=", ["shop/db", "shop/web", "store/web"]),
        ("query=web&namespace=store&media_type=helm&page=3", ["store/web"]),
    ],
)
async def test_lists_are_filtered(doors: Client, query: str, names: list[str]) -> None:
    await push(doors, "shop/web", "1.0.0", chart(), "kpm")
    await push(doors, "shop/db", "1.0.0", chart())
    await push(doors, "store/web", "1.0.0", chart())
    assert [one["name"] for one in await get(doors, f"?{query}")] == names
    if query.startswith("query") and "&" not in query:
        assert await get(doors, f"search?q={query.removeprefix('query=')}") == names


async def test_a_list_can_be_filtered_in_its_body(doors: Client) -> None:
    await push(doors, "shop/web", "1.0.0", chart())
    for body in (b'{"namespace": "shop"}', b'{"namespace": "x"}'):
        answer = await doors("GET", f"{PACKAGES}?namespace=y", body)
        assert (answer.json() != []) is (b"shop" in body)


async def test_a_filter_by_format_narrows_everything(doors: Client) -> None:
    await push(doors, "shop/web", "2.0.0", chart(), "kpm")
    await push(doors, "shop/web", "1.0.0", chart(), "helm")
    await push(doors, "shop/web", "1.0.0", chart(), "kpm")
    (listed,) = await get(doors, "?media_type=helm")
    assert (listed["default"], listed["releases"]) == ("1.0.0", ["1.0.0"])
    assert listed["manifests"] == ["helm"]
    assert [one["release"] for one in await get(doors, "shop/web?media_type=kpm")] == [
        "2.0.0",
        "1.0.0",
    ]


async def test_the_release_is_chosen_before_the_format(doors: Client) -> None:
    await push(doors, "shop/web", "1.0.0", chart(), "helm")
    await push(doors, "shop/web", "2.0.0", chart(), "kpm")
    missing = await doors("GET", f"{PACKAGES}/shop/web/default/helm")
    assert error(missing) == (404, "package-not-found")
    assert missing.json()["error"]["message"] == (  # type: ignore[index]
        "package shop/web doesn't exist, v: 2.0.0, type: helm"
    )
    assert (await get(doors, "shop/web/%3C2/helm"))["release"] == "1.0.0"


async def test_a_release_is_immutable_unless_forced(doors: Client) -> None:
    first, second = chart(), chart(version="2.0.0")
    await push(doors, "shop/web", "1.0.0", first)
    for data in (first, second):
        refused = await push(doors, "shop/web", "1.0.0", data)
        assert error(refused) == (409, "package-exists")
        assert refused.json()["error"]["details"] == {  # type: ignore[index]
            "package": "shop/web",
            "release": "1.0.0",
            "media_type": "helm",
        }
    assert (await doors("GET", f"{PACKAGES}/shop/web/1.0.0/-/pull")).body == first
    assert (await push(doors, "shop/web", "1.0.0", second, force="true")).status == 200
    assert (await doors("GET", f"{PACKAGES}/shop/web/1.0.0/-/pull")).body == second
    old = await doors("GET", f"{PACKAGES}/shop/web/blobs/sha256/{content_digest(first)}")
    assert old.body == first


async def test_two_archives_of_one_tar_keep_their_bytes(doors: Client) -> None:
    files = {"web/data": b"x" * 1000}
    one, two = tgz(files, level=1), tgz(files, level=9)
    assert one != two
    assert content_digest(one) == content_digest(two)
    await push(doors, "shop/web", "1.0.0", one)
    await push(doors, "shop/web", "2.0.0", two)
    assert (await doors("GET", f"{PACKAGES}/shop/web/1.0.0/-/pull")).body == one
    assert (await doors("GET", f"{PACKAGES}/shop/web/2.0.0/-/pull")).body == two
    blob = await doors("GET", f"{PACKAGES}/shop/web/blobs/sha256/{content_digest(one)}")
    assert blob.body in (one, two)


async def test_a_blob_belongs_to_its_package(doors: Client) -> None:
    await push(doors, "shop/web", "1.0.0", chart())
    await push(doors, "shop/db", "1.0.0", chart("db"))
    for digest in (content_digest(chart()), hashlib.sha256(chart()).hexdigest()):
        answer = await doors("GET", f"{PACKAGES}/shop/db/blobs/sha256/{digest}")
        assert error(answer) == (404, "package-not-found")


@on_both_stores
async def test_of_many_pushers_of_one_format_one_wins(doors: Client) -> None:
    archives = [chart(version=f"1.0.{number}") for number in range(12)]
    answers = await asyncio.gather(*(push(doors, "shop/web", "1.0.0", one) for one in archives))
    statuses = [answer.status for answer in answers]
    assert sorted(statuses) == [200] + [409] * 11
    pulled = await doors("GET", f"{PACKAGES}/shop/web/1.0.0/helm/pull")
    assert pulled.body == archives[statuses.index(200)]


@on_both_stores
async def test_pushers_of_different_formats_all_win(doors: Client) -> None:
    formats = [f"type-{number}" for number in range(8)]
    answers = await asyncio.gather(
        *(push(doors, "shop/web", "1.0.0", chart(one), one) for one in formats)
    )
    assert {answer.status for answer in answers} == {200}
    shown = await get(doors, "shop/web/1.0.0")
    assert {one["content"]["digest"] for one in shown} == {
        content_digest(chart(one)) for one in formats
    }


async def test_several_formats_need_to_be_named(doors: Client) -> None:
    await push(doors, "shop/web", "1.0.0", chart(), "kpm")
    await push(doors, "shop/web", "1.0.0", chart(), "helm")
    answer = await doors("GET", f"{PACKAGES}/shop/web/1.0.0/-/pull")
    assert error(answer) == (400, "invalid-usage")
    message = answer.json()["error"]["message"]  # type: ignore[index]
    assert message == "media-type non specified: [helm,kpm]"


async def test_deleting_the_last_format_empties_the_package(doors: Client) -> None:
    await push(doors, "shop/web", "1.0.0", chart(), "kpm")
    await push(doors, "shop/web", "1.0.0", chart(), "helm")
    for format_ in ("kpm", "helm"):
        answer = await doors("DELETE", f"{PACKAGES}/shop/web/1.0.0/{format_}")
        assert answer.json() == {"status": "deleted", "package": "shop/web", "release": "1.0.0"}
        again = await doors("DELETE", f"{PACKAGES}/shop/web/1.0.0/{format_}")
        assert error(again) == (404, "package-not-found")
    assert await get(doors, "shop/web") == []
    assert await get(doors, "") == []
    blob = await doors("GET", f"{PACKAGES}/shop/web/blobs/sha256/{content_digest(chart())}")
    assert blob.body == chart()
    assert (await push(doors, "shop/web", "1.0.0", chart(), "kpm")).status == 200


async def test_a_refused_push_makes_no_package(doors: Client) -> None:
    assert error(await push(doors, "shop/web", "1.0", chart())) == (422, "invalid-release")
    assert error(await push(doors, "shop/web", "1.0.0", b"junk")) == (400, "invalid-usage")
    assert error(await doors("GET", f"{PACKAGES}/shop/web")) == (404, "package-not-found")


async def test_bodies_and_archives_have_limits(registry: Registry, serve: Serve) -> None:
    limits = Limits(body=100_000, unpacked=50_000)
    api = ApprAPI(registry, OpenAccess(), limits=limits)
    small = await serve(lambda app: install(app, api))
    assert (await push(small, "shop/web", "1.0.0", tgz({"web/x": bytes(30_000)}))).status == 200
    bomb = await push(small, "shop/web", "2.0.0", tgz({"web/x": bytes(60_000)}))
    assert error(bomb) == (413, "too-large")
    assert error(await push(small, "shop/web", "2.0.0", bytes(99_000))) == (413, "too-large")


async def test_a_manifest_too_large_is_refused(doors: Client) -> None:
    answer = await push(doors, "shop/web", "1.0.0", chart(), metadata="x" * 5_000_000)
    assert error(answer) == (413, "too-large")


async def test_ranges_and_known_archives_spare_their_bytes(doors: Client) -> None:
    await push(doors, "shop/web", "1.0.0", LARGE)
    path = f"{PACKAGES}/shop/web/1.0.0/-/pull"
    part = await doors("GET", path, headers={"Range": "bytes=5-9"})
    assert (part.status, part.body) == (206, LARGE[5:10])
    known = await doors("GET", path, headers={"If-None-Match": part.headers["ETag"]})
    assert (known.status, known.body) == (304, b"")
    beyond = await doors("GET", path, headers={"Range": f"bytes={len(LARGE)}-"})
    assert error(beyond) == (416, "invalid-usage")


async def test_login_gives_a_token_that_holds_no_password(doors: Client, prefix: str) -> None:
    body = json.dumps({"user": {"username": "ann", "password": "secret"}}).encode()
    stale = {"Authorization": "basic b2xkOnRva2Vu"}
    answer = await doors("POST", f"{prefix}/api/v1/users/login", body, headers=stale)
    token: Any = answer.json()
    assert answer.status == 200
    assert token["token"].startswith("basic ")
    assert base64.b64decode(token["token"].removeprefix("basic ")) == b"ann:"
    refused = await doors("POST", f"{prefix}/api/v1/users/login", b"{}")
    assert error(refused) == (400, "invalid-usage")


async def test_the_server_says_what_it_is(doors: Client, prefix: str) -> None:
    version = await doors("GET", f"{prefix}/version")
    assert version.json() == {"appr-api": "0.7.4", "cnr-api": "0.7.4"}
    known: Any = (await doors("GET", f"{prefix}/.well-known/app-registry-uri.json")).json()
    assert known["prefix"] == known["uri_prefix"] == "/cnr"
    home = await doors("GET", f"{prefix}/?appr-discovery=1", headers={"Host": 'x.org"><b>'})
    assert home.headers["Content-Type"] == "text/html; charset=utf-8"
    tag = (
        '<meta name="appr-package" content="x.org&quot;&gt;&lt;b&gt;/{name} '
        "http://x.org&quot;&gt;&lt;b&gt;/cnr/api/v1/packages/{name}/{version}/{media_type}/pull"
    )
    assert tag in home.body.decode()


async def test_browsers_may_read_everything(doors: Client, prefix: str) -> None:
    for path in ("/version", "/nowhere", f"{PACKAGES}/a/b"):
        answer = await doors("GET", prefix + path, headers={"Origin": "https://ui.example.org"})
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    asked = {"Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "content-type, authorization"
    answer = await doors("OPTIONS", f"{prefix}{PACKAGES}/a/b", headers=asked)
    assert answer.status == 200
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Headers"] == "content-type, authorization"


async def test_unknown_paths_and_methods_are_told_in_json(doors: Client, prefix: str) -> None:
    assert error(await doors("GET", f"{prefix}/nowhere")) == (404, "route-not-found")
    refused = await doors("PATCH", f"{prefix}{PACKAGES}/shop/web")
    assert error(refused) == (405, "method-not-allowed")
    assert refused.headers["Allow"] == "GET, HEAD, POST, OPTIONS"
    assert error(await doors("GET", f"{prefix}{PACKAGES}/Shop/web")) == (400, "invalid-usage")


async def test_a_tar_without_gzip_is_no_archive(doors: Client) -> None:
    answer = await push(doors, "shop/web", "1.0.0", tar({"web/Chart.yaml": b"x"}))
    assert error(answer) == (400, "invalid-usage")


MISSING = "package shop/web doesn't exist, v: {}, type: {}"


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "9.9.9", 404, MISSING.format("9.9.9", None)),
        ("GET", "default", 404, MISSING.format("default", None)),
        ("GET", "1.0.0/kpm", 404, MISSING.format("1.0.0", "kpm")),
        ("GET", "1.0.0/kpm/pull", 404, MISSING.format("1.0.0", "kpm")),
        ("GET", "blobs/sha256/ABC", 404, MISSING.format("ABC", None)),
        ("GET", f"blobs/sha256/{'0' * 64}", 404, MISSING.format("0" * 64, None)),
        ("GET", f"blobs/sha256/sha256:{'0' * 64}", 404, MISSING.format(f"sha256:{'0' * 64}", None)),
        ("DELETE", "9.9.9/helm", 404, MISSING.format(None, None)),
        ("DELETE", "1.0.0/kpm", 404, MISSING.format(None, None)),
        ("DELETE", "default/helm", 404, MISSING.format(None, None)),
        ("GET", "9.9.9/helm", 404, "No release match '9.9.9' for package 'shop/web'"),
        ("GET", "%3E1/helm/pull", 404, "No release match '>1' for package 'shop/web'"),
        ("GET", "abc/helm", 422, "Invalid requirement specification: 'abc'"),
        ("GET", "%C3%A9/helm", 422, "Invalid requirement specification: '\\xe9'"),
        ("GET", "channels/none", 404, "No channel found for package 'none'"),
    ],
)
async def test_what_is_missing_is_told_in_the_original_s_words(
    doors: Client, method: str, path: str, status: int, message: str
) -> None:
    await push(doors, "shop/web", "1.0.0", chart())
    answer = await doors(method, f"{PACKAGES}/shop/web/{path}")
    assert error(answer)[0] == status
    assert answer.json()["message"] == message  # type: ignore[index]


@pytest.mark.parametrize("path", ["", "/1.0.0", "/abc/helm", "/channels", "/1.0.0/helm/pull"])
async def test_of_an_unknown_package_nothing_else_is_told(doors: Client, path: str) -> None:
    answer = await doors("GET", f"{PACKAGES}/shop/none{path}")
    assert error(answer) == (404, "package-not-found")
    assert answer.json()["details"] == {  # type: ignore[index]
        "package": "shop/none",
        "release": None,
        "media_type": None,
    }


async def test_metadata_that_is_no_utf8_is_refused(doors: Client) -> None:
    blob = base64.b64encode(chart())
    body = b'{"release": "1.0.0", "metadata": "\xff", "blob": "' + blob + b'"}'
    answer = await doors("POST", f"{PACKAGES}/shop/web", body)
    assert error(answer) == (400, "invalid-usage")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (StoreUnavailable("no answer"), 503, "unavailable"),
        (StoreFull("no room"), 507, "unavailable"),
        (Contended("gave up"), 503, "resource-in-use"),
        (RuntimeError("a defect"), 500, "internal-error"),
    ],
)
async def test_faults_of_the_server_are_told_as_such(
    doors: Client,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception,
    status: int,
    code: str,
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(registry.packages, "list", fail)
    answer = await doors("GET", PACKAGES)
    assert error(answer) == (status, code)
    assert ("Retry-After" in answer.headers) is (status == 503)
    assert "defect" not in answer.body.decode()


async def test_a_body_that_breaks_off_pushes_nothing(doors: Client) -> None:
    _, writer = await doors.connect()
    writer.write(f"POST {PACKAGES}/shop/web HTTP/1.1\r\nHost: x\r\n".encode())
    writer.write(b'Content-Length: 1000\r\n\r\n{"release": ')
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    answer = await doors("GET", f"{PACKAGES}/shop/web")
    assert error(answer) == (404, "package-not-found")
