"""Replay recorded exchanges of the appr API against a server and tell every difference.

Each file in ``scenarios/`` holds steps that the original server 0.7.4 answered as recorded. Status,
content type, recorded headers, the bytes of archives and every recorded key of JSON must come
again; keys may be added. Two deviations are agreed:

* errors were flat, ``{"code", "message", "details"}``, and must arrive inside ``{"error": ...}``;
* a step with a `quirk` (the original crashed, or took what a server may refuse) passes with its
  recorded success or with a status of `accept`, by default any 4xx, then with a JSON error.

In recorded JSON ``{"$any": kind}``, ``{"$oneof": [...]}`` and ``{"$set": [...]}`` stand for values
that vary, a choice, and an array in any order; in headers ``{"$has": [...]}`` for list members and
null for an absent header.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from conformance.wire import TIMEOUT, Reply, Server

SCENARIOS = Path(__file__).parent / "scenarios"
DATETIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?")
ANY: Mapping[str, Callable[[object], bool]] = {
    "any": lambda _: True,
    "text": lambda got: isinstance(got, str),
    "datetime": lambda got: isinstance(got, str) and DATETIME.fullmatch(got) is not None,
}
LONGEST = 200  # characters of a value in a message

Json = Any
"""Parsed JSON: the recordings are the schema."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Exchanges that belong together; `needs_empty` ones look at the whole server."""

    name: str
    needs_empty: bool
    steps: tuple[Json, ...]


def load() -> tuple[Scenario, ...]:
    """Read every recorded scenario, in the order of their names."""
    recorded = [json.loads(file.read_text("utf-8")) for file in sorted(SCENARIOS.glob("*.json"))]
    return tuple(
        Scenario(one["name"], one.get("needs_empty", False), tuple(one["steps"]))
        for one in recorded
    )


def replay(scenario: Scenario, server: Server, *, prefix: str) -> list[str]:
    """Play all steps below `prefix` and return one line for each that went wrong."""
    failures = []
    for number, step in enumerate(scenario.steps, 1):
        request = step["request"]
        if lines := list(check(step, send(server, request, prefix=prefix))):
            target = f"{request['method']} {prefix}{request['path']}?{request.get('query', '')}"
            failures.append(f"step {number}: {target[:LONGEST]}: {'; '.join(lines)}")
    return failures


def send(server: Server, request: Json, *, prefix: str) -> Reply | None:
    """Send a recorded request; nothing comes back when the server just closed the connection."""
    target = (prefix + request["path"] or "/") + (
        f"?{request['query']}" if "query" in request else ""
    )
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    body = None
    if "json" in request:
        headers["Content-Type"] = "application/json"
        body = json.dumps(request["json"]).encode()
    elif "text" in request:
        body = request["text"].encode()
    elif "body_b64" in request:
        body = base64.b64decode(request["body_b64"])
    connection = http.client.HTTPConnection(server.host, timeout=TIMEOUT)
    connection.connect()
    try:
        connection.request(request["method"], target, body, headers | request.get("headers", {}))
        reply = connection.getresponse()
        return Reply(reply.status, reply.headers, reply.read())
    except (http.client.HTTPException, ConnectionError):
        return None
    finally:
        connection.close()


def check(step: Json, reply: Reply | None) -> Iterator[str]:
    """Yield what a reply has wrong, the agreed deviations allowed."""
    if reply is None:
        yield "closed without a reply"
    elif "quirk" in step:
        yield from _check_quirk(step, reply)
    else:
        yield from _check_reply(step, reply)


def compare(expected: Json, got: Json, *, at: str) -> Iterator[str]:
    """Yield the differences between recorded JSON and what came."""
    if isinstance(expected, dict) and len(expected) == 1 and next(iter(expected))[:1] == "$":
        yield from _compare_marker(expected, got, at=at)
    elif isinstance(expected, dict):
        if not isinstance(got, dict):
            yield _differ(at, expected, got)
            return
        for key, value in expected.items():
            yield from compare(value, got.get(key, KeyError), at=f"{at}.{key}")
    elif isinstance(expected, list):
        if not isinstance(got, list) or len(got) != len(expected):
            yield _differ(at, expected, got)
            return
        for index, (left, right) in enumerate(zip(expected, got, strict=True)):
            yield from compare(left, right, at=f"{at}[{index}]")
    elif isinstance(expected, bool) is not isinstance(got, bool) or expected != got:
        yield _differ(at, expected, got)


def _compare_marker(marker: Json, got: Json, *, at: str) -> Iterator[str]:
    ((kind, wanted),) = marker.items()
    if kind == "$set":
        yield from _compare_unordered(wanted, got, at=at)
    elif kind == "$oneof":
        if not any(_same(one, got) for one in wanted):
            yield _differ(at, marker, got)
    elif got is KeyError or not ANY[wanted](got):
        yield _differ(at, marker, got)


def _compare_unordered(expected: Json, got: Json, *, at: str) -> Iterator[str]:
    if not isinstance(got, list) or len(got) != len(expected):
        yield _differ(at, expected, got)
        return
    left = list(got)
    for item in expected:
        found = next((index for index, one in enumerate(left) if _same(item, one)), None)
        if found is None:
            yield _differ(f"a member of {at}", item, left)
        else:
            del left[found]


def _same(expected: Json, got: Json) -> bool:
    return next(compare(expected, got, at=""), None) is None


def _check_reply(step: Json, reply: Reply) -> Iterator[str]:
    expected = step["response"]
    if reply.status != expected["status"]:
        yield _differ("status", expected["status"], reply.status) + f" {reply.body[:LONGEST]!r}"
        return
    yield from _check_headers(expected, reply)
    if "json" in expected:
        is_error = expected["status"] >= HTTPStatus.BAD_REQUEST
        wanted = {"error": expected["json"]} if is_error else expected["json"]
        matches = _compare_unordered if step.get("unordered") else compare
        yield from matches(wanted, _json(reply), at="$")
    if "body_b64" in expected:
        wanted = base64.b64decode(expected["body_b64"])
        if reply.body != wanted:
            yield _differ("body", wanted, reply.body)
    if "text" in expected:
        yield from compare(expected["text"], reply.body.decode("utf-8", "replace"), at="text")


def _check_headers(expected: Json, reply: Reply) -> Iterator[str]:
    recorded = dict(expected.get("headers", {}))
    if "content_type" in expected:
        recorded["Content-Type"] = expected["content_type"]
    for name, wanted in recorded.items():
        got = reply.headers.get(name)
        if isinstance(wanted, dict) and "$has" in wanted:
            members = {member.strip().lower() for member in (got or "").split(",")}
            if not {member.lower() for member in wanted["$has"]} <= members:
                yield _differ(name, wanted, got)
        else:
            yield from compare(wanted, got, at=name)


def _check_quirk(step: Json, reply: Reply) -> Iterator[str]:
    is_error = reply.status >= HTTPStatus.BAD_REQUEST
    if not is_error and next(_check_reply(step, reply), None) is None:
        return
    accepted = step.get("accept", ["4xx"])
    if not {str(reply.status), f"{reply.status // 100}xx"} & set(accepted):
        yield _differ(f"status ({step['quirk']})", accepted, reply.status)
    elif is_error and step["request"]["method"] != "HEAD" and not _is_error(_json(reply)):
        yield _differ(f"body ({step['quirk']})", "a JSON error", reply.body)


def _is_error(body: Json) -> bool:
    shape = {"error": {"code": {"$any": "text"}, "message": {"$any": "text"}}}
    return _same(shape, body)


def _json(reply: Reply) -> Json:
    try:
        return json.loads(reply.body)
    except ValueError:
        return None


def _differ(at: str, expected: Json, got: Json) -> str:
    came = "nothing" if got is KeyError else _short(got)
    return f"{at}: expected {_short(expected)}, got {came}"


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"
