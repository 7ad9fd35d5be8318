"""Requests of the appr door as values, both ways; the table of its errors; its parameters."""

from __future__ import annotations

import base64
import gzip
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociappr.appr_api import protocol
from ociappr.appr_api.errors import TABLE, respond
from ociappr.appr_api.parameters import merge, read_login, read_push, text
from ociappr.appr_api.protocol import construct, parse
from ociappr.errors import (
    MediaTypeInvalid,
    MethodRefused,
    NameInvalid,
    OciapprError,
    PackageInvalid,
    ReleaseInvalid,
    RequestInvalid,
    RouteUnknown,
    TooLarge,
    leaves,
)
from ociappr.names import PackageName
from tests.http.appr import chart

WEB = PackageName("shop", "web")
A = "/api/v1/packages"

LINES = [
    ("GET", "/", protocol.Home()),
    ("GET", "/.well-known/app-registry-uri.json", protocol.WellKnown()),
    ("GET", "/version", protocol.ShowVersion()),
    ("POST", "/api/v1/users/login", protocol.Login()),
    ("GET", A, protocol.ListPackages()),
    ("GET", f"{A}/search", protocol.SearchPackages()),
    ("GET", f"{A}/shop/web", protocol.ShowReleases(WEB)),
    ("POST", f"{A}/shop/web", protocol.Push(WEB)),
    ("GET", f"{A}/shop/web/1.0.0%2Bb", protocol.ShowRelease(WEB, "1.0.0+b")),
    ("GET", f"{A}/shop/web/%3E%3D1/helm", protocol.ShowPackage(WEB, ">=1", "helm")),
    ("DELETE", f"{A}/shop/web/1.0.0/helm", protocol.DeletePackage(WEB, "1.0.0", "helm")),
    ("GET", f"{A}/shop/web/default/-/pull", protocol.Pull(WEB, "default", "-")),
    ("GET", f"{A}/shop/web/default/-/pull/json", protocol.Pull(WEB, "default", "-", as_json=True)),
    ("GET", f"{A}/shop/web/blobs/sha256/ab", protocol.GetBlob(WEB, "ab")),
    ("GET", f"{A}/shop/web/blobs/sha256/ab/json", protocol.GetBlob(WEB, "ab", as_json=True)),
    ("GET", f"{A}/shop/web/channels", protocol.ListChannels(WEB)),
    ("GET", f"{A}/shop/web/channels/beta", protocol.ShowChannel(WEB, "beta")),
    ("DELETE", f"{A}/shop/web/channels/beta", protocol.DeleteChannel(WEB, "beta")),
    ("POST", f"{A}/shop/web/channels/beta/1.0.0", protocol.SetChannel(WEB, "beta", "1.0.0")),
    ("DELETE", f"{A}/shop/web/channels/beta/1.0.0", protocol.LeaveChannel(WEB, "beta", "1.0.0")),
]


@pytest.mark.parametrize(("method", "path", "operation"), LINES, ids=lambda value: str(value)[:40])
def test_a_line_is_its_operation_both_ways(
    method: str, path: str, operation: protocol.Operation
) -> None:
    assert parse(method, path) == operation
    assert construct(operation) == (method, path)


@pytest.mark.parametrize("prefix", ["/cnr", "/appr", "/%63nr"])
def test_a_prefix_may_stand_before_every_path(prefix: str) -> None:
    for method, path, operation in LINES:
        assert parse(method, prefix + path) == operation
    assert parse("GET", prefix) == protocol.Home()


def test_a_trailing_slash_is_ignored_below_the_api_only() -> None:
    for method, path, operation in LINES:
        if path.startswith("/api"):
            assert parse(method, path + "/") == operation
    with pytest.raises(RouteUnknown):
        parse("GET", "/version/")


def test_fixed_words_win_where_they_have_the_method() -> None:
    assert parse("GET", f"{A}/search/web") == protocol.ShowReleases(PackageName("search", "web"))
    assert parse("GET", f"{A}/shop/web/blobs/sha256") == protocol.ShowPackage(
        WEB, "blobs", "sha256"
    )
    assert parse("GET", f"{A}/shop/web/channels/x/pull") == protocol.Pull(WEB, "channels", "x")
    assert parse("HEAD", f"{A}/shop/web/channels") == protocol.ListChannels(WEB)


@pytest.mark.parametrize(
    ("query", "as_json"),
    [
        ("format=json", True),
        ("x=1&format=json", True),
        ("format=JSON", False),
        ("Format=json", False),
        ("format=tar&format=json", False),
        ("", False),
    ],
)
def test_the_query_asks_for_json(query: str, *, as_json: bool) -> None:
    path = f"{A}/shop/web/default/-/pull"
    assert parse("GET", path, query) == protocol.Pull(WEB, "default", "-", as_json=as_json)


@pytest.mark.parametrize(
    "path",
    [
        *("/nowhere", "/api", "/api/v1", "*", "//", "/cnr/cnr"),
        *(f"{A}/shop", f"{A}//shop/web", f"{A}/shop/web//", f"{A}/shop%2Fweb"),
        *(f"{A}/shop/web/1.0.0/a%2Fb", f"{A}/shop/web/1.0.0/helm/push"),
    ],
)
def test_other_paths_are_unknown(path: str) -> None:
    with pytest.raises(RouteUnknown):
        parse("GET", path)


def test_a_path_that_is_no_utf8_or_names_no_package_is_refused() -> None:
    with pytest.raises(RequestInvalid):
        parse("GET", f"{A}/shop/%ff")
    with pytest.raises(NameInvalid):
        parse("GET", f"{A}/Shop/web")


def test_a_refused_method_is_told_the_others() -> None:
    with pytest.raises(MethodRefused) as caught:
        parse("PUT", f"{A}/shop/web/channels/beta")
    assert set(caught.value.allowed) == {"GET", "HEAD", "DELETE", "OPTIONS"}


@given(st.text(max_size=40), st.sampled_from(["GET", "POST", "DELETE", "HEAD", "x"]))
def test_any_path_is_an_operation_or_refused(path: str, method: str) -> None:
    for start in ("", f"{A}/shop/web/"):
        try:
            operation = parse(method, start + path, path)
        except OciapprError:
            continue
        assert parse(*construct(operation)) == operation


def test_every_error_has_its_status_and_code() -> None:
    assert set(TABLE) == set(leaves())
    for status, code in TABLE.values():
        assert 400 <= status < 600
        assert re.fullmatch("[a-z]+(-[a-z]+)*", code)


@pytest.mark.parametrize("kind", list(leaves()))
def test_every_error_has_a_body_that_all_clients_read(kind: type[OciapprError]) -> None:
    response = respond(kind("why"))
    assert isinstance(response.body, bytes)
    document = json.loads(response.body)
    assert response.status == TABLE[kind][0]
    assert document["error"]["message"] == document["message"] == "why"
    assert isinstance(document["details"], dict)
    assert "code" not in document


# -- parameters ----------------------------------------------------------------------------------

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"


def test_json_counts_before_the_query_and_the_query_before_a_form() -> None:
    assert text(merge("q=query&q=second", b'{"q": "json"}', ""), "q") == "json"
    assert text(merge("q=query&q=second", b"q=form", FORM), "q") == "query"
    assert text(merge("", b"q=form", FORM), "q") == "form"
    assert text(merge("", b'{"q": "json"}', FORM), "q") == "json"
    assert text(merge("q=query", b'{"q": null}', ""), "q") is None
    assert text(merge("", b"q=form", "text/plain"), "q") is None


def test_a_multipart_form_is_read() -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="q"\r\n\r\nhelm\r\n'
        b'--b\r\nContent-Disposition: form-data; name="query"; filename="x"\r\n'
        b"Content-Type: text/plain\r\n\r\na\r\nb\r\n--b--\r\n"
    )
    parameters = merge("", body, MULTIPART)
    assert (text(parameters, "q"), text(parameters, "query")) == ("helm", "a\r\nb")


@pytest.mark.parametrize("body", [b"", b"[]", b'["a"]', b"5", b"null", b"{broken", b"\xff", b'"a"'])
def test_a_body_that_is_no_object_counts_as_none(body: bytes) -> None:
    assert text(merge("q=1", body, "application/json"), "q") == "1"


def test_a_parameter_of_another_type_is_refused() -> None:
    with pytest.raises(RequestInvalid):
        text(merge("", b'{"q": 5}', ""), "q")
    with pytest.raises(RequestInvalid):
        text(merge("", b'{"q": "\xff"}', ""), "q")
    with pytest.raises(RequestInvalid):
        merge("a=1&" * 200, b"", "")
    with pytest.raises(TooLarge):
        merge("", b"blob=" + b"A" * 9_000_000, FORM)


def fields(**changes: object) -> bytes:
    document: dict[str, object] = {
        "release": "1.0.0",
        "media_type": "helm",
        "blob": base64.b64encode(chart()).decode(),
    }
    return json.dumps(document | changes).encode()


def test_a_push_says_what_it_wants() -> None:
    found = read_push(merge("", fields(metadata={"a": [1]}), ""), limit=10**6)
    assert (str(found.release), found.submission.format) == ("1.0.0", "helm")
    assert (found.submission.data, found.metadata) == (chart(), '{"a": [1]}')
    assert found.submission.config is not None
    assert found.force is False


@pytest.mark.parametrize(
    ("value", "forced"),
    [("true", True), (True, True), ("True", False), (1, False), ("1", False), (None, False)],
)
def test_only_true_forces(value: object, *, forced: bool) -> None:
    assert read_push(merge("", fields(force=value), ""), limit=10**6).force is forced


def test_base64_may_hold_line_breaks() -> None:
    broken = base64.encodebytes(chart()).decode()
    assert read_push(merge("", fields(blob=broken), ""), limit=10**6).submission.data == chart()


def test_the_default_format_is_the_original_s() -> None:
    body = json.dumps({"release": "1.0.0", "blob": base64.b64encode(chart()).decode()}).encode()
    assert read_push(merge("", body, ""), limit=10**6).submission.format == "kpm"


def test_a_long_media_type_is_its_short_name() -> None:
    long = "application/vnd.appr.package-manifest.helm.v1.json"
    found = read_push(merge("", fields(media_type=long), ""), limit=10**6)
    assert found.submission.format == "helm"


@pytest.mark.parametrize("release", ["1.0", None, 1, ["1.0.0"], "", "v1.0.0", "1.0.0\n"])
def test_a_release_that_is_none_is_refused(release: object) -> None:
    with pytest.raises(ReleaseInvalid):
        read_push(merge("", fields(release=release), ""), limit=10**6)


@pytest.mark.parametrize(
    "format_", ["-", "", "a.b", "a/b", "é", "x" * 65, None, 5, ["helm"], "a b"]
)
def test_a_media_type_that_is_none_is_refused(format_: object) -> None:
    with pytest.raises(MediaTypeInvalid):
        read_push(merge("", fields(media_type=format_), ""), limit=10**6)


@pytest.mark.parametrize(
    "blob", ["", None, 5, {}, "AAA", "!!!!", base64.b64encode(b"x").decode(), "data:x;base64,AAAA"]
)
def test_a_blob_that_is_no_archive_is_refused(blob: object) -> None:
    with pytest.raises(PackageInvalid):
        read_push(merge("", fields(blob=blob), ""), limit=10**6)


@pytest.mark.parametrize("missing", ["release", "blob"])
def test_a_missing_field_is_named(missing: str) -> None:
    document = json.loads(fields())
    del document[missing]
    with pytest.raises(PackageInvalid, match=f"Missing {missing}"):
        read_push(merge("", json.dumps(document).encode(), ""), limit=10**6)


def test_a_bomb_is_refused() -> None:
    bomb = base64.b64encode(gzip.compress(bytes(2_000_000))).decode()
    with pytest.raises(TooLarge):
        read_push(merge("", fields(blob=bomb), ""), limit=10**6)


def test_a_login_is_read_or_refused() -> None:
    assert read_login(b'{"user": {"username": "ann", "password": "x"}}') == "ann"
    for body in (b"", b"{}", b'{"user": {"username": "ann"}}', b'{"user": 5}', b"\xff"):
        with pytest.raises(RequestInvalid):
            read_login(body)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(
    st.one_of(
        st.binary(max_size=60),
        json_values.map(lambda value: json.dumps(value).encode()),
        st.fixed_dictionaries(
            {"release": json_values, "blob": json_values, "media_type": json_values},
            optional={"metadata": json_values, "force": json_values},
        ).map(lambda value: json.dumps(value).encode()),
    ),
    st.sampled_from(["", FORM, MULTIPART, "multipart/form-data", "x; y", "multipart/form-data;b="]),
    st.text(max_size=20),
)
def test_any_push_is_understood_or_refused(body: bytes, content_type: str, query: str) -> None:
    try:
        read_push(merge(query, body, content_type), limit=10**6)
    except OciapprError as refused:
        respond(refused)
