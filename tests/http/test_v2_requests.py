"""What every request of the door has in common: routes, methods, access, defects."""

from __future__ import annotations

import logging
from typing import get_args

import pytest

from ociappr.access import Access, Action, OpenAccess, Principal
from ociappr.digest import Digest
from ociappr.distribution.application import install
from ociappr.distribution.handlers import DistributionAPI
from ociappr.distribution.operations import Operation
from ociappr.errors import Denied, StoreFull, StoreUnavailable, TooManyRequests, Unauthorized
from ociappr.names import RepositoryName, Tag
from ociappr.registry import Registry
from tests.http.client import Answer, Client, image, push_blob, push_image
from tests.http.conftest import Serve

DIGEST = Digest.of(b"{}")


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
async def test_the_door_is_open(v2: Client, path: str) -> None:
    answer = await v2("GET", path)
    assert (answer.status, answer.body) == (200, b"{}")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"
    assert (await v2("HEAD", path)).status == 200


@pytest.mark.parametrize(
    "target",
    [
        "/v2/x",
        "/v2/a/b/c",
        "/v2/a/tags/lists",
        "/v2/a/extensions/v2/x/signatures/y",
        f"/v2/a%2Fblobs/{DIGEST}",
        "/v2/%0A",
        "/v2/a%0Ab",
        "/v2//",
        "/v2/../",
        "/v2/%",
        "/v2/%2F",
        "/v2/_catalog/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_unknown_paths_are_answered_in_the_doors_own_form(
    v2: Client, method: str, target: str
) -> None:
    answer = await v2(method, target)
    assert (answer.status, answer.code) == (404, "UNSUPPORTED")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("DELETE", "/v2/", "GET, HEAD"),
        ("OPTIONS", "/v2/", "GET, HEAD"),
        ("POST", "/v2/_catalog", "GET, HEAD"),
        ("PUT", "/v2/a/tags/list", "GET, HEAD"),
        ("PATCH", "/v2/a/manifests/v1", "GET, HEAD, PUT, DELETE"),
        ("PUT", f"/v2/a/blobs/{DIGEST}", "GET, HEAD, DELETE"),
        ("GET", "/v2/a/blobs/uploads/", "POST"),
        ("POST", "/v2/a/blobs/uploads/x", "GET, HEAD, PATCH, PUT, DELETE"),
        ("DELETE", f"/v2/a/referrers/{DIGEST}", "GET, HEAD"),
    ],
)
async def test_wrong_methods_are_told_the_right_ones(
    v2: Client, method: str, target: str, allowed: str
) -> None:
    answer = await v2(method, target)
    assert (answer.status, answer.code) == (405, "UNSUPPORTED")
    assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "name", ["A", "a//b", "a/", "-a", "a..b", "%C3%A9", "a%2Fb", "a%00", "x" * 256, "a%20"]
)
@pytest.mark.parametrize(
    "rest", ["manifests/v1", f"blobs/{DIGEST}", "tags/list", f"referrers/{DIGEST}"]
)
async def test_names_that_cannot_be(v2: Client, name: str, rest: str) -> None:
    answer = await v2("GET", f"/v2/{name}/{rest}")
    assert (answer.status, answer.code) == (400, "NAME_INVALID")


async def test_a_head_that_fails_has_no_body(v2: Client) -> None:
    answer = await v2("HEAD", f"/v2/a/b/blobs/{DIGEST}")
    assert (answer.status, answer.body) == (404, b"")


class _Door(OpenAccess):
    """Raises one error wherever it is asked, and remembers what for."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[tuple[str, tuple[Action, ...]]] = []

    def require(
        self,
        principal: Principal,  # noqa: ARG002 - the protocol's parameter
        repository: RepositoryName | None,
        *actions: Action,
    ) -> None:
        self.asked.append((str(repository or ""), actions))
        if self.error is not None:
            raise self.error


async def ask(registry: Registry, serve: Serve, access: Access, method: str, path: str) -> Answer:
    api = DistributionAPI(registry, access)
    client = await serve(lambda app: install(app, api))
    return await client(method, path)


PULL, PUSH, DELETE = Action.PULL, Action.PUSH, Action.DELETE
UPLOAD = "/v2/a/b/blobs/uploads/x.y"


@pytest.mark.parametrize(
    ("method", "path", "repository", "actions"),
    [
        ("GET", "/v2/", "", ()),
        ("GET", "/v2/_catalog", "", (Action.CATALOG,)),
        ("GET", "/v2/a/b/tags/list", "a/b", (PULL,)),
        ("GET", f"/v2/a/b/referrers/{DIGEST}", "a/b", (PULL,)),
        ("GET", "/v2/a/b/manifests/v1", "a/b", (PULL,)),
        ("HEAD", "/v2/a/b/manifests/v1", "a/b", (PULL,)),
        ("PUT", "/v2/a/b/manifests/v1", "a/b", (PULL, PUSH)),
        ("DELETE", "/v2/a/b/manifests/v1", "a/b", (DELETE,)),
        ("GET", f"/v2/a/b/blobs/{DIGEST}", "a/b", (PULL,)),
        ("HEAD", f"/v2/a/b/blobs/{DIGEST}", "a/b", (PULL,)),
        ("DELETE", f"/v2/a/b/blobs/{DIGEST}", "a/b", (DELETE,)),
        ("POST", "/v2/a/b/blobs/uploads/", "a/b", (PULL, PUSH)),
        ("POST", f"/v2/a/b/blobs/uploads/?digest={DIGEST}", "a/b", (PULL, PUSH)),
        ("POST", f"/v2/a/b/blobs/uploads/?mount={DIGEST}", "a/b", (PULL, PUSH)),
        ("GET", UPLOAD, "a/b", (PULL, PUSH)),
        ("PATCH", UPLOAD, "a/b", (PULL, PUSH)),
        ("PUT", f"{UPLOAD}?digest={DIGEST}", "a/b", (PULL, PUSH)),
        ("DELETE", UPLOAD, "a/b", (PULL, PUSH)),
    ],
)
async def test_everything_asks_before_it_answers(
    registry: Registry,
    serve: Serve,
    method: str,
    path: str,
    repository: str,
    actions: tuple[Action, ...],
) -> None:
    door = _Door(Denied("not you"))
    answer = await ask(registry, serve, door, method, path)
    assert answer.status == 403
    assert method == "HEAD" or answer.code == "DENIED"
    assert door.asked == [(repository, actions)]


async def test_every_operation_has_a_handler(registry: Registry) -> None:
    groups = get_args(Operation)
    kinds = {kind for group in groups for kind in (get_args(group) or (group,))}
    assert set(DistributionAPI(registry, OpenAccess()).handlers) == kinds


async def test_a_challenge_is_passed_on(registry: Registry, serve: Serve) -> None:
    challenge = 'Bearer realm="https://example.org/token",service="s"'
    door = _Door(Unauthorized("who are you", challenge=challenge))
    answer = await ask(registry, serve, door, "GET", "/v2/")
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
    assert answer.headers.getall("WWW-Authenticate") == [challenge]


@pytest.mark.parametrize(
    ("error", "status", "code", "retry"),
    [
        (StoreUnavailable("away"), 503, "UNAVAILABLE", "1"),
        (StoreFull("full"), 507, "UNAVAILABLE", None),
        (TooManyRequests("slowly", retry_after=9), 429, "TOOMANYREQUESTS", "9"),
    ],
)
async def test_later_perhaps(
    registry: Registry,
    serve: Serve,
    error: Exception,
    status: int,
    code: str,
    retry: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    error.__cause__ = OSError("the very reason")
    answer = await ask(registry, serve, _Door(error), "GET", "/v2/")
    assert ("the very reason" in caplog.text) == (status >= 500)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers.get("Retry-After") == retry


async def test_a_defect_is_logged_and_told_without_details(
    registry: Registry, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    door = _Door(ZeroDivisionError("a secret"))
    with caplog.at_level(logging.ERROR):
        answer = await ask(registry, serve, door, "GET", "/v2/a/b/tags/list")
    assert (answer.status, answer.code) == (500, "UNKNOWN")
    assert b"a secret" not in answer.body
    request = answer.body.decode().rpartition("request ")[2].partition('"')[0]
    assert request in caplog.text
    assert "a secret" in caplog.text


async def test_who_asks_is_asked_about(registry: Registry, serve: Serve) -> None:
    seen: list[Principal] = []

    class Recording(OpenAccess):
        def require(
            self, principal: Principal, repository: RepositoryName | None, *actions: Action
        ) -> None:
            seen.append(principal)
            super().require(principal, repository, *actions)

    async def identify(_: object) -> Principal:
        return Principal("somebody")

    api = DistributionAPI(registry, Recording(), identify=identify)
    client = await serve(lambda app: install(app, api))
    await client("GET", "/v2/")
    assert seen == [Principal("somebody")]


async def test_pulls_are_told_to_the_recorder(registry: Registry, serve: Serve) -> None:
    pulls: list[tuple[str, Tag | Digest]] = []
    api = DistributionAPI(
        registry, OpenAccess(), pulled=lambda name, target: pulls.append((str(name), target))
    )
    client = await serve(lambda app: install(app, api))
    digest = await push_image(client, "a/b", image(), "v1")
    blob = await push_blob(client, "a/b", b"layer")
    for path in (f"manifests/{digest}", "manifests/v1", "manifests/v2", f"blobs/{blob}"):
        await client("GET", f"/v2/a/b/{path}")
    assert pulls == [("a/b", digest), ("a/b", Tag("v1")), ("a/b", blob)]
