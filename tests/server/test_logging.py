from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conformance.servers import Servers
from conformance.wire import Server, digest_of, fetch
from tests.server.conftest import access, connect, ends, eventually, lines

pytestmark = pytest.mark.slow

SECRET = "hunter2"
GREETING = bytes.fromhex("16030100c2010000be0303") + bytes(range(180))  # TLS, cut


def log_of(server: Server) -> Path:
    return server.data.parent / "server-0.log"


def told(server: Server, count: int) -> list[dict[str, object]]:
    """Return the access lines when there are as many as expected, and no more."""
    eventually(lambda: len(access(log_of(server))) >= count, f"{count} lines are written")
    found = access(log_of(server))
    assert len(found) == count
    return found


def test_one_line_per_request_without_secrets(servers: Servers) -> None:
    server = servers()
    body = f"body with {SECRET}".encode()
    headers = {
        "Authorization": f"Bearer {SECRET}",
        "Cookie": SECRET,
        "X-Request-Id": "from-the-proxy.1",
        "User-Agent": "client/1.0",
    }
    path = "/v2/a/b/blobs/uploads/"
    fetch(
        server,
        "POST",
        f"{path}?digest={digest_of(body)}&token={SECRET}",
        headers=headers,
        body=body,
    )
    fetch(server, "GET", f"/v2/a/b/blobs/{digest_of(body)}")
    fetch(server, "POST", "/api/v1/users/login", body=b'{"user": {"password": "%b"}}' % b"hunter2")
    first, second, _ = told(server, 3)
    time, seconds = first.pop("time"), first.pop("seconds")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", str(time))
    assert isinstance(seconds, float)
    assert first == {
        "level": "info",
        "logger": "ociappr.access",
        "method": "POST",
        "path": path,
        "status": 201,
        "received": len(body),
        "sent": 0,
        "remote": "127.0.0.1",
        "agent": "client/1.0",
        "request": "from-the-proxy.1",
    }
    assert second["sent"] == len(body)
    assert re.fullmatch("[0-9a-f]{16}", str(second["request"]))
    assert SECRET not in log_of(server).read_text()


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_line_can_be_forged(servers: Servers, form: str) -> None:
    server = servers("--log-format", form)
    before = log_of(server).read_text()
    requests = [
        b'GET /v2/"}%0a{"status":200,"path":"/forged HTTP/1.1\r\nHost: x\r\n\r\n',
        b"GET /v2/%0d%0aforged HTTP/1.1\r\nHost: x\r\nUser-Agent: a\x0b\x85b\r\n\r\n",
        b'GET /v2/ HTTP/1.1\r\nHost: x\r\nUser-Agent: "}\\n{"a": \xff\xfe\xe2\x80\xa8\r\n\r\n',
        b"GET /v2/\xff\xe2\x80\xa8 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Request-Id: a b\x0b\r\n\r\n",
        b"GET /" + b"long" * 1900 + b" HTTP/1.1\r\nHost: x\r\nUser-Agent: " + b"l" * 5000,
        GREETING,
        b"\x00\r\n\r\n",
    ]
    for request in requests:
        connection = connect(server)
        connection.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        if not request.endswith(b"\r\n\r\n"):
            connection.sendall(b"\r\nConnection: close\r\n\r\n")
        assert ends(connection).startswith(b"HTTP/1."), request
        connection.close()

    def fresh() -> list[str]:
        text = log_of(server).read_text().removeprefix(before)
        return [line for line in text.splitlines() if "/readyz" not in line]

    eventually(lambda: len(fresh()) >= len(requests), "every request is told")
    found = fresh()
    assert len(found) == len(requests)
    for line in found:
        assert line.isascii()
        assert line.isprintable()
        assert len(line) < 4096
        if form == "json":
            assert json.loads(line)["logger"] == "ociappr.access"
        else:
            assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d info    method=", line)


def test_a_tls_greeting_is_one_line(servers: Servers) -> None:
    server = servers()
    connection = connect(server)
    connection.sendall(GREETING)
    assert ends(connection).startswith(b"HTTP/1.0 400 ")
    (line,) = told(server, 1)
    assert (line["status"], line["method"], line["path"]) == (400, "UNKNOWN", "/")
    assert all("exception" not in line for line in lines(log_of(server)))


def test_the_access_log_can_be_off(servers: Servers) -> None:
    server = servers(env={"OCIAPPR_LOG__ACCESS": "false"})
    fetch(server, "GET", "/v2/")
    assert b'ociappr_requests_total{door="oci"' in fetch(server, "GET", "/metrics").body
    servers.stop(server)
    assert access(log_of(server)) == []


def test_metrics(servers: Servers) -> None:
    server = servers()
    body = b"x" * 20_000
    fetch(server, "POST", f"/v2/a/b/blobs/uploads/?digest={digest_of(body)}", body=body)
    for _ in range(3):
        fetch(server, "GET", f"/v2/a/b/blobs/{digest_of(body)}")
    fetch(server, "BREW", "/v2/")
    fetch(server, "GET", "/cnr/api/v1/packages")
    reply = fetch(server, "GET", "/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    text = reply.body.decode()
    got = 'door="oci",method="GET",status="200",worker="0"'
    for line in (
        f"ociappr_requests_total{{{got}}} 3.0",
        f"ociappr_sent_bytes_total{{{got}}} 60000.0",
        f"ociappr_request_seconds_count{{{got}}} 3.0",
        f'ociappr_request_seconds_bucket{{door="oci",le="+Inf",{got[11:]}}} 3.0',
        'ociappr_received_bytes_total{door="oci",method="POST",status="201",worker="0"} 20000.0',
        'ociappr_requests_total{door="appr",method="GET",status="200",worker="0"} 1.0',
        'ociappr_access_lines_lost{worker="0"} 0.0',
    ):
        assert line in text.splitlines()
    assert 'method="other"' in text
    assert "process_resident_memory_bytes" in text


def test_the_collector_tells_what_it_did(servers: Servers) -> None:
    server = servers(env={"OCIAPPR_COLLECTOR__INTERVAL": "100ms"})
    line = b'ociappr_collector_total{what="runs",worker="0"}'
    eventually(lambda: line in fetch(server, "GET", "/metrics").body, "the collector has run")
    found = [line for line in lines(log_of(server)) if line.get("message") == "collected"]
    assert found[0]["swept"] == 0


def test_a_collector_that_is_off_does_nothing(servers: Servers) -> None:
    off = {"OCIAPPR_COLLECTOR__INTERVAL": "1ms", "OCIAPPR_COLLECTOR__ENABLED": "false"}
    server = servers(env=off)
    for _ in range(20):
        fetch(server, "GET", "/v2/")
    servers.stop(server)
    assert not [line for line in lines(log_of(server)) if line.get("message") == "collected"]


@pytest.mark.parametrize(
    ("trusted", "remote"), [("127.0.0.0/8", "203.0.113.7"), ("10.0.0.0/8", "127.0.0.1")]
)
def test_only_a_trusted_proxy_names_the_client(servers: Servers, trusted: str, remote: str) -> None:
    server = servers(env={"OCIAPPR_SERVER__TRUSTED_PROXIES": trusted})
    fetch(server, "GET", "/v2/", headers={"X-Forwarded-For": "198.51.100.1, 203.0.113.7"})
    (line,) = told(server, 1)
    assert line["remote"] == remote
