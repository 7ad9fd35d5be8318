from __future__ import annotations

import json
import re
from http import HTTPStatus

import pytest

from ociappr import errors
from ociappr.digest import Digest
from ociappr.distribution.errors import TABLE, failed, respond
from ociappr.distribution.operations import FinishUpload, GetUpload, UploadChunk
from ociappr.errors import OciapprError, leaves
from ociappr.names import RepositoryName

REPOSITORY = RepositoryName("library/busybox")
DIGEST = Digest.of(b"")


@pytest.mark.parametrize("error", list(leaves()), ids=lambda error: error.__name__)
def test_every_error_has_a_status_and_a_code(error: type[OciapprError]) -> None:
    status, code = TABLE[error]
    assert re.fullmatch("[A-Z_]+", code)
    group = next(cls for cls in error.__mro__ if OciapprError in cls.__bases__)
    expected = (500, 599) if group is errors.Unavailable else (400, 499)
    assert expected[0] <= status <= expected[1]


def test_the_table_names_nothing_else() -> None:
    assert set(TABLE) == set(leaves())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.BlobUnknown, 404),
        (errors.ManifestUnknown, 404),
        (errors.NameUnknown, 404),
        (errors.UploadUnknown, 404),
        (errors.RouteUnknown, 404),
        (errors.TagImmutable, 403),
        (errors.ManifestTooLarge, 413),
        (errors.TooManyTags, 414),
        (errors.StoreFull, 507),
        (errors.StoreUnavailable, 503),
        (errors.Contended, 503),
    ],
)
def test_statuses_that_clients_act_on(error: type[OciapprError], status: int) -> None:
    assert respond(error("no")).status == status


def test_the_body_is_the_specs_and_detail_is_a_text() -> None:
    error = errors.DigestInvalid("no", detail={"given": "a", "computed": "b"}, hint="try again")
    response = respond(error)
    assert response.headers["Content-Type"] == "application/json"
    assert (
        response.body
        == json.dumps(
            {
                "errors": [
                    {
                        "code": "DIGEST_INVALID",
                        "message": "no",
                        "detail": "given: a; computed: b; try again",
                    }
                ]
            }
        ).encode()
    )


def test_without_anything_to_tell_there_is_no_detail() -> None:
    assert b"detail" not in _body(respond(errors.BlobUnknown("no")))


def test_whatever_a_client_sent_the_body_is_ascii() -> None:
    error = errors.DigestInvalid("no", detail={"digest": "sha256:\udcff\x00é"})
    assert _body(respond(error)).isascii()


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (
            errors.Unauthorized("no", challenge='Bearer realm="r"'),
            {"WWW-Authenticate": 'Bearer realm="r"'},
        ),
        (errors.MethodRefused("no", allowed=("GET", "HEAD")), {"Allow": "GET, HEAD"}),
        (errors.TooManyRequests("no", retry_after=7), {"Retry-After": "7"}),
        (errors.Contended("no"), {"Retry-After": "1"}),
        (errors.StoreUnavailable("no"), {"Retry-After": "1"}),
        (errors.RangeInvalid("no", size=9), {"Content-Range": "bytes */9"}),
    ],
)
def test_headers_tell_how_to_go_on(error: OciapprError, headers: dict[str, str]) -> None:
    found = respond(error).headers
    assert {name: found[name] for name in headers} == headers


def test_a_full_disk_promises_nothing() -> None:
    assert "Retry-After" not in respond(errors.StoreFull("no")).headers


@pytest.mark.parametrize(
    "operation", [UploadChunk(REPOSITORY, "id"), FinishUpload(REPOSITORY, "id", DIGEST)]
)
def test_a_chunk_that_does_not_fit_tells_where_to_go_on(
    operation: UploadChunk | FinishUpload,
) -> None:
    headers = respond(errors.RangeInvalid("no", offset=10), operation).headers
    assert headers["Location"] == "/v2/library/busybox/blobs/uploads/id"
    assert headers["Range"] == "0-9"


def test_only_chunks_tell_where_to_go_on() -> None:
    operation = GetUpload(REPOSITORY, "id")
    assert "Location" not in respond(errors.RangeInvalid("no", offset=10), operation).headers


def test_a_defect_shows_no_details_but_the_request_id() -> None:
    response = failed("abc")
    assert response.status == HTTPStatus.INTERNAL_SERVER_ERROR
    assert b"request abc" in _body(response)


def _body(response: object) -> bytes:
    body = getattr(response, "body", None)
    assert isinstance(body, bytes)
    return body
