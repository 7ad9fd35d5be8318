from __future__ import annotations

import pytest

from ociappr.access import Action, OpenAccess, Principal
from ociappr.digest import Digest
from ociappr.distribution import lists
from ociappr.distribution.application import install
from ociappr.distribution.handlers import DistributionAPI
from ociappr.media import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from ociappr.names import RepositoryName
from ociappr.registry import Registry
from tests.http.client import (
    Answer,
    Client,
    image,
    on_both_stores,
    push_blob,
    push_image,
    push_manifest,
)
from tests.http.conftest import Serve

RAW = image()
SUBJECT = Digest.of(RAW)
REFERRERS = f"/v2/a/b/referrers/{SUBJECT}"


def listed(answer: Answer, key: str) -> list[object]:
    document = answer.json()
    assert answer.status == 200
    assert isinstance(document, dict)
    found = document[key]
    assert isinstance(found, list)
    return found


def following(answer: Answer) -> str:
    """Return where the next page is; "" if there is none."""
    link = answer.headers.get("Link", "")
    if not link:
        return ""
    assert link.startswith("</v2/")
    assert link.endswith('>; rel="next"')
    return link[1 : link.index(">")]


@pytest.fixture
async def tagged(v2: Client) -> Client:
    """A server whose repository a/b has the tags a, b, B, a.1 and a-1."""
    await push_image(v2, "a/b", RAW)
    for tag in ("b", "a", "B", "a.1", "a-1"):
        await push_manifest(v2, "a/b", RAW, tag)
    return v2


async def test_all_tags_in_byte_order(tagged: Client) -> None:
    answer = await tagged("GET", "/v2/a/b/tags/list")
    assert answer.json() == {"name": "a/b", "tags": ["B", "a", "a-1", "a.1", "b"]}
    assert answer.headers["Content-Type"] == "application/json"
    assert "Link" not in answer.headers
    head = await tagged("HEAD", "/v2/a/b/tags/list")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(answer.body))


@pytest.mark.parametrize(
    ("query", "tags", "more"),
    [
        ("?n=2", ["B", "a"], True),
        ("?n=2&last=a", ["a-1", "a.1"], True),
        ("?n=2&last=a.1", ["b"], False),
        ("?n=5", ["B", "a", "a-1", "a.1", "b"], False),
        ("?n=10001", ["B", "a", "a-1", "a.1", "b"], False),
        ("?last=a.0", ["a.1", "b"], False),
        ("?last=zzz", [], False),
        ("?last=%00", ["B", "a", "a-1", "a.1", "b"], False),
        ("?last=%F0%9F%98%80", [], False),
        ("?last=%ff", [], False),
        ("?n=0", [], False),
        ("?n=0&last=a", [], False),
        ("?ns=docker.io", ["B", "a", "a-1", "a.1", "b"], False),
    ],
)
async def test_pages_of_tags(tagged: Client, query: str, tags: list[str], *, more: bool) -> None:
    answer = await tagged("GET", f"/v2/a/b/tags/list{query}")
    assert listed(answer, "tags") == tags
    assert bool(following(answer)) == more


@on_both_stores
async def test_links_lead_through_all_tags(tagged: Client) -> None:
    seen, target = [], "/v2/a/b/tags/list?n=2"
    while target:
        answer = await tagged("GET", target)
        seen += listed(answer, "tags")
        target = following(answer)
    assert seen == ["B", "a", "a-1", "a.1", "b"]


async def test_a_page_without_n_is_bounded_too(
    tagged: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "PAGE_LIMIT", 3)
    for query in ("", "?n=4"):
        answer = await tagged("GET", f"/v2/a/b/tags/list{query}")
        assert listed(answer, "tags") == ["B", "a", "a-1"]
        assert following(answer) == "/v2/a/b/tags/list?n=3&last=a-1"


@pytest.mark.parametrize("query", ["", "?n=0", "?n=5"])
async def test_tags_of_no_repository(v2: Client, query: str) -> None:
    answer = await v2("GET", f"/v2/a/b/tags/list{query}")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


async def test_a_repository_whose_last_tag_went_has_none(v2: Client) -> None:
    await push_image(v2, "a/b", RAW, "v1")
    await v2("DELETE", "/v2/a/b/manifests/v1")
    assert listed(await v2("GET", "/v2/a/b/tags/list"), "tags") == []


@pytest.mark.parametrize("path", ["/v2/a/b/tags/list", "/v2/_catalog", REFERRERS])
@pytest.mark.parametrize("n", ["-1", "x", "", "1.5", "%D9%A1"])
async def test_numbers_that_are_none(tagged: Client, path: str, n: str) -> None:
    answer = await tagged("GET", f"{path}?n={n}")
    assert (answer.status, answer.code) == (400, "PAGINATION_NUMBER_INVALID")


@on_both_stores
async def test_the_catalog_page_by_page(v2: Client) -> None:
    assert listed(await v2("GET", "/v2/_catalog"), "repositories") == []
    for name in ("b", "a/c", "a", "a/b"):
        await push_blob(v2, name, b"{}")
    assert listed(await v2("GET", "/v2/_catalog?n=0"), "repositories") == []
    first = await v2("GET", "/v2/_catalog?n=3")
    assert listed(first, "repositories") == ["a", "a/b", "a/c"]
    assert following(first) == "/v2/_catalog?n=3&last=a/c"
    second = await v2("GET", following(first))
    assert (listed(second, "repositories"), following(second)) == (["b"], "")


class _NotB(OpenAccess):
    """Open, but for the repository b."""

    def allows(
        self, principal: Principal, repository: RepositoryName | None, *actions: Action
    ) -> bool:
        return repository != RepositoryName("b") and super().allows(principal, repository, *actions)


async def test_the_catalog_shows_what_may_be_pulled(registry: Registry, serve: Serve) -> None:
    api = DistributionAPI(registry, _NotB())
    client = await serve(lambda app: install(app, api))
    for name in ("a", "b", "c"):
        await push_blob(client, name, b"{}")
    assert listed(await client("GET", "/v2/_catalog"), "repositories") == ["a", "c"]
    page = await client("GET", "/v2/_catalog?n=2")
    assert listed(page, "repositories") == ["a"]
    assert following(page) == "/v2/_catalog?n=2&last=b"


async def test_a_mount_from_where_one_may_not_pull_is_none(
    registry: Registry, serve: Serve
) -> None:
    api = DistributionAPI(registry, _NotB())
    client = await serve(lambda app: install(app, api))
    digest = await push_blob(client, "b", b"private")
    for source in ("&from=b", ""):
        answer = await client("POST", f"/v2/a/blobs/uploads/?mount={digest}{source}")
        assert answer.status == 202


@pytest.mark.parametrize("repository", ["a/b", "no/where"])
async def test_nobody_refers(v2: Client, repository: str) -> None:
    await push_blob(v2, "a/b", b"{}")
    answer = await v2("GET", f"/v2/{repository}/referrers/{SUBJECT}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == OCI_INDEX
    assert answer.json() == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}


async def test_referrers_are_told_as_they_are(v2: Client) -> None:
    await push_blob(v2, "a/b", b"{}")
    raw = image(subject=SUBJECT, annotations={"name": "value"})
    digest = await push_manifest(v2, "a/b", raw)
    answer = await v2("GET", REFERRERS)
    assert listed(answer, "manifests") == [
        {
            "mediaType": OCI_MANIFEST,
            "digest": str(digest),
            "size": len(raw),
            "artifactType": OCI_CONFIG,
            "annotations": {"name": "value"},
        }
    ]
    assert "OCI-Filters-Applied" not in answer.headers
    head = await v2("HEAD", REFERRERS)
    assert head.headers["Content-Length"] == str(len(answer.body))


async def test_referrers_of_a_type(v2: Client) -> None:
    await push_blob(v2, "a/b", b"{}")
    digest = await push_manifest(v2, "a/b", image(subject=SUBJECT))
    for query, expected in (
        (f"?artifactType={OCI_CONFIG}", [str(digest)]),
        (f"?artifactType=x/y&artifactType={OCI_CONFIG}", [str(digest)]),
        ("?artifactType=x/y", []),
    ):
        answer = await v2("GET", REFERRERS + query)
        assert answer.headers["OCI-Filters-Applied"] == "artifactType"
        found = [entry["digest"] for entry in listed(answer, "manifests")]  # type: ignore[index]
        assert found == expected


@on_both_stores
async def test_referrers_page_by_page(v2: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await push_blob(v2, "a/b", b"{}")
    raws = [image(subject=SUBJECT, annotations={"i": str(i)}) for i in range(7)]
    digests = sorted([str(await push_manifest(v2, "a/b", raw)) for raw in raws])
    monkeypatch.setattr(lists, "_BATCH", 2)
    for first, sizes in (
        (f"{REFERRERS}?n=3", [3, 3, 1]),
        (f"{REFERRERS}?artifactType={OCI_CONFIG}&n=4", [4, 3]),
        (f"{REFERRERS}?n=7", [7]),
        (f"{REFERRERS}?n=0", [0]),
    ):
        seen, pages, target = [], [], first
        while target:
            answer = await v2("GET", target)
            assert ("OCI-Filters-Applied" in answer.headers) == ("artifactType" in target)
            page = [str(entry["digest"]) for entry in listed(answer, "manifests")]  # type: ignore[index]
            seen += page
            pages.append(len(page))
            target = following(answer)
        assert pages == sizes
        assert seen == digests[: sum(sizes)]


async def test_a_page_of_referrers_is_bounded_in_bytes(
    v2: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await push_blob(v2, "a/b", b"{}")
    for i in range(3):
        raw = image(subject=SUBJECT, annotations={"i": str(i), "padding": "x" * 1_000})
        await push_manifest(v2, "a/b", raw)
    monkeypatch.setattr(lists, "_REFERRERS_BYTES", 2_000)
    seen, target = 0, REFERRERS
    while target:
        answer = await v2("GET", target)
        assert len(listed(answer, "manifests")) == 1
        seen += 1
        target = following(answer)
    assert seen == 3


@pytest.mark.parametrize("digest", ["v1", "sha256:x", "", "sha256%3a"])
async def test_referrers_of_what_is_no_digest(v2: Client, digest: str) -> None:
    answer = await v2("GET", f"/v2/a/b/referrers/{digest}")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
