from __future__ import annotations

from contextlib import suppress
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociappr.digest import Digest
from ociappr.distribution.construct import construct, upload_range
from ociappr.distribution.operations import (
    BeginUpload,
    CancelUpload,
    DeleteBlob,
    DeleteManifest,
    FinishUpload,
    GetBlob,
    GetManifest,
    GetUpload,
    HeadBlob,
    HeadManifest,
    ListReferrers,
    ListRepositories,
    ListTags,
    MountBlob,
    Operation,
    Ping,
    PutBlob,
    PutManifest,
    UploadChunk,
)
from ociappr.distribution.protocol import PAGE_LIMIT, TAG_LIMIT, parse
from ociappr.errors import (
    DigestInvalid,
    ManifestInvalid,
    ManifestUnknown,
    MethodRefused,
    NameInvalid,
    OciapprError,
    PageInvalid,
    RangeInvalid,
    RequestInvalid,
    RouteUnknown,
    TagInvalid,
    TooManyTags,
    UploadInvalid,
    UploadUnknown,
)
from ociappr.names import Reference, RepositoryName, Tag
from ociappr.registry.uploads import Span

N = RepositoryName("library/busybox")
HEX = "ab" * 32
D = Digest("sha256", HEX)
D512 = Digest("sha512", "cd" * 64)
UPLOADS = "/v2/library/busybox/blobs/uploads/"
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"

LINES = [
    ("GET", "/v2/", {}, Ping()),
    ("GET", "/v2/_catalog", {}, ListRepositories()),
    ("GET", "/v2/_catalog?n=10&last=a/b", {}, ListRepositories(10, "a/b")),
    ("GET", "/v2/library/busybox/tags/list", {}, ListTags(N)),
    ("GET", "/v2/library/busybox/tags/list?n=0", {}, ListTags(N, 0)),
    ("GET", "/v2/library/busybox/tags/list?n=5&last=v1", {}, ListTags(N, 5, "v1")),
    ("GET", "/v2/library/busybox/tags/list?last=v1%20%26", {}, ListTags(N, None, "v1 &")),
    ("GET", f"/v2/library/busybox/referrers/{D}", {}, ListReferrers(N, D)),
    (
        "GET",
        f"/v2/library/busybox/referrers/{D}?artifactType=a/b%2Bc&artifactType=d/e&n=7&last={D}",
        {},
        ListReferrers(N, D, ("a/b+c", "d/e"), 7, str(D)),
    ),
    ("GET", "/v2/library/busybox/manifests/v1", {}, GetManifest(Reference(N, Tag("v1")))),
    ("GET", f"/v2/library/busybox/manifests/{D}", {}, GetManifest(Reference(N, D))),
    ("HEAD", f"/v2/library/busybox/manifests/{D512}", {}, HeadManifest(Reference(N, D512))),
    ("PUT", "/v2/library/busybox/manifests/v1", {}, PutManifest(Reference(N, Tag("v1")))),
    (
        "PUT",
        f"/v2/library/busybox/manifests/{D}?tag=a&tag=b",
        {"Content-Type": MEDIA_TYPE},
        PutManifest(Reference(N, D), MEDIA_TYPE, (Tag("a"), Tag("b"))),
    ),
    ("DELETE", "/v2/library/busybox/manifests/v1", {}, DeleteManifest(Reference(N, Tag("v1")))),
    ("DELETE", f"/v2/library/busybox/manifests/{D}", {}, DeleteManifest(Reference(N, D))),
    ("GET", f"/v2/library/busybox/blobs/{D}", {}, GetBlob(N, D)),
    ("HEAD", f"/v2/library/busybox/blobs/{D}", {}, HeadBlob(N, D)),
    ("DELETE", f"/v2/library/busybox/blobs/{D512}", {}, DeleteBlob(N, D512)),
    ("POST", UPLOADS, {}, BeginUpload(N)),
    ("POST", f"{UPLOADS}?digest-algorithm=sha512", {}, BeginUpload(N, "sha512")),
    ("POST", f"{UPLOADS}?digest={D}", {}, PutBlob(N, D)),
    ("POST", f"{UPLOADS}?mount={D}", {}, MountBlob(N, D)),
    ("POST", f"{UPLOADS}?mount={D}&from=a/b", {}, MountBlob(N, D, RepositoryName("a/b"))),
    ("GET", f"{UPLOADS}x.y_Z", {}, GetUpload(N, "x.y_Z")),
    ("PATCH", f"{UPLOADS}x", {}, UploadChunk(N, "x")),
    ("PATCH", f"{UPLOADS}x", {"Content-Range": "3-9"}, UploadChunk(N, "x", Span(3, 9))),
    ("PUT", f"{UPLOADS}x?digest={D}", {}, FinishUpload(N, "x", D)),
    (
        "PUT",
        f"{UPLOADS}x?digest={D}",
        {"Content-Range": "0-0"},
        FinishUpload(N, "x", D, Span(0, 0)),
    ),
    ("DELETE", f"{UPLOADS}x", {}, CancelUpload(N, "x")),
]


def read(method: str, target: str, headers: dict[str, str] | None = None) -> Operation:
    path, _, query = target.partition("?")
    return parse(method, path, query, headers or {})


@pytest.mark.parametrize(("method", "target", "headers", "operation"), LINES)
def test_a_line_and_its_value_say_the_same(
    method: str, target: str, headers: dict[str, str], operation: Operation
) -> None:
    assert read(method, target, headers) == operation
    request = construct(operation)
    assert (request.method, request.target, dict(request.headers)) == (method, target, headers)


def test_the_table_has_every_operation() -> None:
    kinds = {kind for group in get_args(Operation) for kind in (get_args(group) or (group,))}
    assert {type(operation) for *_, operation in LINES} == kinds


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("GET", "/v2", Ping()),
        ("HEAD", "/v2/", Ping()),
        ("HEAD", "/v2/_catalog", ListRepositories()),
        ("HEAD", "/v2/library/busybox/tags/list", ListTags(N)),
        ("HEAD", f"/v2/library/busybox/referrers/{D}", ListReferrers(N, D)),
        ("HEAD", f"{UPLOADS}x", GetUpload(N, "x")),
        ("POST", UPLOADS.rstrip("/"), BeginUpload(N)),
        ("POST", f"{UPLOADS}?account=me&client_id=x", BeginUpload(N)),
        ("POST", f"{UPLOADS}?mount={D}&from=a/b&origin=x", MountBlob(N, D, RepositoryName("a/b"))),
        (
            "POST",
            f"{UPLOADS}?mount=sha256%3A{HEX}&from=a%2Fb",
            MountBlob(N, D, RepositoryName("a/b")),
        ),
        ("POST", f"{UPLOADS}?mount={D}&from=", MountBlob(N, D)),
        ("PUT", f"{UPLOADS}x?ns=docker.io&digest=sha256%3A{HEX}", FinishUpload(N, "x", D)),
        ("GET", f"/v2/library/busybox/blobs/sha256%3A{HEX}", GetBlob(N, D)),
        ("GET", f"/v2/library/busybox/blobs/{D}?ns=docker.io", GetBlob(N, D)),
        ("GET", f"/v2/librar%79/busybox/%62lobs/{D}", GetBlob(N, D)),
        ("GET", "/v2/_catalog?n=99999999999999999999999", ListRepositories(PAGE_LIMIT)),
        ("GET", "/v2/_catalog?n=10001", ListRepositories(PAGE_LIMIT)),
        ("GET", f"/v2/library/busybox/referrers/{D}?artifactType=", ListReferrers(N, D)),
        (
            "GET",
            f"/v2/library/busybox/referrers/{D}?artifactType=a+b",
            ListReferrers(N, D, ("a+b",)),
        ),
        (
            "PUT",
            f"/v2/library/busybox/manifests/{D}?tag=a&tag=a",
            PutManifest(Reference(N, D), "", (Tag("a"),)),
        ),
    ],
)
def test_what_else_means_the_same(method: str, target: str, operation: Operation) -> None:
    assert read(method, target) == operation


@pytest.mark.parametrize(
    ("target", "repository"),
    [
        (f"/v2/a/blobs/uploads/blobs/{D}", "a/blobs/uploads"),
        (f"/v2/blobs/blobs/{D}", "blobs"),
        (f"/v2/a/manifests/blobs/{D}", "a/manifests"),
        (f"/v2/tags/list/blobs/{D}", "tags/list"),
        (f"/v2/v2/blobs/{D}", "v2"),
    ],
)
def test_names_may_hold_the_words_of_the_api(target: str, repository: str) -> None:
    assert read("GET", target) == GetBlob(RepositoryName(repository), D)


@pytest.mark.parametrize(
    ("method", "target", "error"),
    [
        ("GET", "/", RouteUnknown),
        ("GET", "/v2/x", RouteUnknown),
        ("GET", "/v2/manifests/x", RouteUnknown),
        ("GET", f"/v2/blobs/{D}", RouteUnknown),
        ("GET", "/v2/a/tags/lists", RouteUnknown),
        ("GET", "/v2/a/tags/list/", RouteUnknown),
        ("GET", "/v1/a/tags/list", RouteUnknown),
        ("GET", "/v2/a/manifests/x/", RouteUnknown),
        ("POST", "/v2/a/uploads/", RouteUnknown),
        ("GET", f"/v2/a%2Fblobs/{D}", RouteUnknown),
        ("GET", f"/v2/a%2Fb/blobs/{D}", NameInvalid),
        ("GET", f"/v2/A/blobs/{D}", NameInvalid),
        ("GET", f"/v2/a//b/blobs/{D}", NameInvalid),
        ("GET", f"/v2/../blobs/{D}", NameInvalid),
        ("GET", f"/v2/a/%2e%2e/blobs/{D}", NameInvalid),
        ("GET", f"/v2/a%00/blobs/{D}", NameInvalid),
        ("GET", f"/v2/a%0a/blobs/{D}", NameInvalid),
        ("GET", f"/v2/{'a' * 256}/blobs/{D}", NameInvalid),
        ("GET", f"/v2/é/blobs/{D}", NameInvalid),
        ("GET", "/v2/a/blobs/", DigestInvalid),
        ("GET", "/v2/a/blobs/sha256", DigestInvalid),
        ("GET", "/v2/a/blobs/sha256:totallywrong", DigestInvalid),
        ("GET", f"/v2/a/blobs/sha256:{HEX.upper()}", DigestInvalid),
        ("GET", f"/v2/a/blobs/md5:{HEX}", DigestInvalid),
        ("GET", f"/v2/a/blobs/{D}%0A", DigestInvalid),
        ("GET", "/v2/a/referrers/latest", DigestInvalid),
        ("GET", "/v2/a/manifests/sha256:baddigeststring", DigestInvalid),
        ("PUT", f"/v2/a/manifests/{D}%20%20", DigestInvalid),
        ("GET", "/v2/a/manifests/.INVALID_MANIFEST_NAME", ManifestUnknown),
        ("HEAD", f"/v2/a/manifests/{'x' * 129}", ManifestUnknown),
        ("DELETE", "/v2/a/manifests/a%2Fb", ManifestUnknown),
        ("GET", "/v2/a/manifests/", ManifestUnknown),
        ("PUT", "/v2/a/manifests/-x", TagInvalid),
        ("PUT", "/v2/a/manifests/x?tag=y", TagInvalid),
        ("PUT", f"/v2/a/manifests/{D}?tag=-", TagInvalid),
        (
            "PUT",
            f"/v2/a/manifests/{D}?" + "&".join(f"tag=t{i}" for i in range(TAG_LIMIT + 1)),
            TooManyTags,
        ),
        ("GET", "/v2/_catalog?n=-1", PageInvalid),
        ("GET", "/v2/_catalog?n=x", PageInvalid),
        ("GET", "/v2/_catalog?n=", PageInvalid),
        ("GET", "/v2/_catalog?n=1_0", PageInvalid),
        ("GET", "/v2/_catalog?n=%D9%A1", PageInvalid),
        ("GET", "/v2/_catalog?last=é", RequestInvalid),
        ("GET", "/v2/_catalog?" + "&".join(["a=b"] * 1_001), RequestInvalid),
        ("POST", f"{UPLOADS}?digest=", DigestInvalid),
        ("POST", f"{UPLOADS}?mount=x", DigestInvalid),
        ("POST", f"{UPLOADS}?mount={D}&from=A", NameInvalid),
        ("POST", f"{UPLOADS}?digest-algorithm=md5", DigestInvalid),
        ("PUT", f"{UPLOADS}x", DigestInvalid),
        ("PUT", f"{UPLOADS}x?digest=sha256:x", DigestInvalid),
        ("PATCH", f"{UPLOADS}x-y", UploadUnknown),
        ("PATCH", f"{UPLOADS}%2E%2E%2Fx", UploadUnknown),
        ("PATCH", f"{UPLOADS}{'x' * 257}", UploadUnknown),
    ],
)
def test_malformed_lines(method: str, target: str, error: type[OciapprError]) -> None:
    with pytest.raises(error):
        read(method, target)


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("POST", "/v2/", ("GET", "HEAD")),
        ("PUT", "/v2/_catalog", ("GET", "HEAD")),
        ("DELETE", "/v2/a/tags/list", ("GET", "HEAD")),
        ("POST", "/v2/a/manifests/x", ("GET", "HEAD", "PUT", "DELETE")),
        ("PUT", f"/v2/a/blobs/{D}", ("GET", "HEAD", "DELETE")),
        ("GET", "/v2/a/blobs/uploads/", ("POST",)),
        ("GET", "/v2/a/blobs/uploads", ("POST",)),
        ("POST", "/v2/a/blobs/uploads/x", ("GET", "HEAD", "PATCH", "PUT", "DELETE")),
        ("get", "/v2/", ("GET", "HEAD")),
    ],
)
def test_wrong_methods(method: str, target: str, allowed: tuple[str, ...]) -> None:
    with pytest.raises(MethodRefused) as caught:
        read(method, target)
    assert caught.value.allowed == allowed


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", UploadInvalid),
        ("0", UploadInvalid),
        ("bytes 0-1/2", UploadInvalid),
        ("-1-2", UploadInvalid),
        ("0-1 ", UploadInvalid),
        ("0-٣", UploadInvalid),
        (f"0-{'9' * 19}", UploadInvalid),
        ("2-1", RangeInvalid),
    ],
)
def test_malformed_content_ranges(text: str, error: type[OciapprError]) -> None:
    with pytest.raises(error):
        read("PATCH", f"{UPLOADS}x", {"Content-Range": text})


def test_a_malformed_content_type_is_the_manifests_fault() -> None:
    with pytest.raises(ManifestInvalid):
        read("PUT", "/v2/a/manifests/x", {"Content-Type": "what is this"})


@pytest.mark.parametrize(("offset", "text"), [(0, "0-0"), (1, "0-0"), (2, "0-1"), (10, "0-9")])
def test_the_range_of_an_upload(offset: int, text: str) -> None:
    assert upload_range(offset) == text


# -- generated ---------------------------------------------------------------------------------

component = st.from_regex(r"[a-z0-9]{1,8}(?:(?:\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
words = st.sampled_from(["blobs", "uploads", "manifests", "tags", "list", "referrers", "v2"])
repositories = st.lists(component | words, min_size=1, max_size=4).map(
    lambda parts: RepositoryName("/".join(parts))
)
digests = st.binary(min_size=32, max_size=32).map(
    lambda raw: Digest("sha256", raw.hex())
) | st.binary(min_size=64, max_size=64).map(lambda raw: Digest("sha512", raw.hex()))
tags = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,9}", fullmatch=True).map(Tag) | words.map(Tag)
references = st.builds(Reference, repositories, tags | digests)
uploads = st.from_regex("[A-Za-z0-9._]{1,9}", fullmatch=True)
counts = st.none() | st.integers(0, PAGE_LIMIT)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
spans = st.none() | st.tuples(st.integers(0, 10**17), st.integers(0, 10**17)).map(
    lambda pair: Span(min(pair), max(pair))
)
media_types = st.sampled_from(["", MEDIA_TYPE, "application/vnd.x.y-z+json"])

operations: st.SearchStrategy[Operation] = st.one_of(
    st.just(Ping()),
    st.builds(ListRepositories, counts, texts),
    st.builds(ListTags, repositories, counts, texts),
    st.builds(
        ListReferrers,
        repositories,
        digests,
        st.lists(texts.filter(bool), max_size=3).map(tuple),
        counts,
        texts,
    ),
    st.builds(GetManifest, references),
    st.builds(HeadManifest, references),
    st.builds(DeleteManifest, references),
    st.builds(PutManifest, references, media_types),
    st.builds(
        PutManifest,
        st.builds(Reference, repositories, digests),
        media_types,
        st.lists(tags, max_size=TAG_LIMIT, unique=True).map(tuple),
    ),
    st.builds(GetBlob, repositories, digests),
    st.builds(HeadBlob, repositories, digests),
    st.builds(DeleteBlob, repositories, digests),
    st.builds(BeginUpload, repositories, st.sampled_from(["sha256", "sha512"])),
    st.builds(PutBlob, repositories, digests),
    st.builds(MountBlob, repositories, digests, st.none() | repositories),
    st.builds(GetUpload, repositories, uploads),
    st.builds(UploadChunk, repositories, uploads, spans),
    st.builds(FinishUpload, repositories, uploads, digests, spans),
    st.builds(CancelUpload, repositories, uploads),
)


@given(operations)
def test_every_operation_survives_its_request(operation: Operation) -> None:
    assert parse(*construct(operation)) == operation


methods = st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "get", ""])
pieces = st.one_of(
    words,
    component,
    digests.map(str),
    st.sampled_from(["", "..", "%2F", "%2f", "%", "%zz", "%00", "_catalog", "sha256:", "\udcff"]),
    st.text(max_size=8),
)
queries = st.lists(
    st.tuples(
        st.sampled_from(["n", "last", "digest", "mount", "from", "tag", "artifactType", "x"]),
        st.text(max_size=8) | digests.map(str) | st.sampled_from(["%", "%ff", "%00", "1", "-1"]),
    ),
    max_size=4,
).map(lambda pairs: "&".join(f"{key}={value}" for key, value in pairs))
headers = st.dictionaries(
    st.sampled_from(["Content-Range", "Content-Type"]),
    st.text(max_size=12) | st.sampled_from(["0-1", "1-0", "bytes=0-1", MEDIA_TYPE]),
)


@given(methods, st.lists(pieces, max_size=6).map(lambda p: "/v2/" + "/".join(p)), queries, headers)
def test_whatever_comes_is_an_operation_or_an_error_of_ours(
    method: str, path: str, query: str, fields: dict[str, str]
) -> None:
    with suppress(OciapprError):
        operation = parse(method, path, query, fields)
        assert parse(*construct(operation)) == operation
