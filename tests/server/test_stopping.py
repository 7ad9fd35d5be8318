from __future__ import annotations

import http.client
import os
import re
import signal
import socket
from contextlib import closing

import pytest

from conformance.servers import Servers
from conformance.wire import Server, digest_of, expect, fetch, get_blob, push_blob
from tests.server.conftest import (
    begin_upload,
    connect,
    ends,
    eventually,
    lines,
    refuses,
)

BODY = os.urandom(1_000_000)


def kept(server: Server) -> http.client.HTTPConnection:
    """Return a connection that has served a request and waits for another."""
    connection = http.client.HTTPConnection(server.host, timeout=20)
    connection.request("GET", "/readyz")
    reply = connection.getresponse()
    assert (reply.status, reply.read()) == (200, b"ready\n")
    return connection


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_what_runs_is_finished(servers: Servers, workers: str) -> None:
    server = servers("--workers", workers)
    upload = begin_upload(server, BODY, 300_000)
    os.kill(servers.pid(server), signal.SIGTERM)
    eventually(lambda: refuses(server), "nobody listens")
    upload.sendall(BODY[300_000:])
    answer = ends(upload)
    assert answer.startswith(b"HTTP/1.1 201 Created\r\n")
    assert b"\r\nConnection: close\r\n" in answer
    assert servers.stop(server) == 0
    again = servers(data=server.data)
    assert get_blob(again, "a/b", digest_of(BODY)) == BODY


@pytest.mark.slow
def test_a_slow_download_is_finished(servers: Servers) -> None:
    server = servers()
    content = os.urandom(16 * 1024 * 1024)
    digest = push_blob(server, "a/b", content)
    download = socket.socket()
    download.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    download.settimeout(20)
    host, _, port = server.host.rpartition(":")
    download.connect((host, int(port)))
    download.sendall(f"GET /v2/a/b/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    begun = download.recv(65536)
    os.kill(servers.pid(server), signal.SIGTERM)
    eventually(lambda: refuses(server), "nobody listens")
    head, _, body = (begun + ends(download)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert digest_of(body) == digest
    assert servers.stop(server) == 0


@pytest.mark.slow
def test_meanwhile_it_is_not_ready_and_keeps_no_connection(servers: Servers) -> None:
    server = servers()
    upload = begin_upload(server, BODY, 1000)
    with closing(kept(server)) as busy, closing(kept(server)) as idle:
        os.kill(servers.pid(server), signal.SIGTERM)
        eventually(lambda: refuses(server), "nobody listens")
        busy.request("GET", "/readyz")
        reply = busy.getresponse()
        assert (reply.status, reply.read()) == (503, b"stopping\n")
        assert reply.headers["Connection"] == "close"
        upload.sendall(BODY[1000:])
        assert ends(upload).startswith(b"HTTP/1.1 201 Created\r\n")
        assert servers.stop(server) == 0
        assert idle.sock.recv(1) == b""


@pytest.mark.slow
def test_a_proxy_gets_notice(servers: Servers) -> None:
    server = servers(env={"OCIAPPR_SERVER__NOTICE": "1h"})
    os.kill(servers.pid(server), signal.SIGTERM)
    eventually(lambda: fetch(server, "GET", "/readyz").status == 503, "it is not ready")
    expect(fetch(server, "GET", "/livez"), 200)
    push_blob(server, "a/b", BODY)
    assert servers.stop(server) == 0  # the second signal: no more waiting


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_waiting_has_an_end(servers: Servers, workers: str) -> None:
    server = servers("--workers", workers, env={"OCIAPPR_SERVER__DRAIN": "100ms"})
    upload = begin_upload(server, BODY, 300_000)
    assert servers.stop(server) == 0
    assert b"201" not in ends(upload)
    again = servers(data=server.data)
    expect(fetch(again, "GET", f"/v2/a/b/blobs/{digest_of(BODY)}"), 404)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_asked_twice_it_hurries(servers: Servers, workers: str, number: signal.Signals) -> None:
    server = servers("--workers", workers, env={"OCIAPPR_SERVER__DRAIN": "1h"})
    upload = begin_upload(server, BODY, 300_000)
    os.kill(servers.pid(server), number)
    eventually(lambda: refuses(server), "nobody listens")
    assert servers.stop(server) == 0
    assert b"201" not in ends(upload)


@pytest.mark.slow
def test_a_client_that_stalls_is_cut_off(servers: Servers) -> None:
    server = servers(env={"OCIAPPR_SERVER__STALL": "200ms"})
    upload = begin_upload(server, BODY, 300_000)
    assert ends(upload) == b""
    log = server.data.parent / "server-0.log"
    eventually(lambda: lines(log)[-1].get("status") == 499, "the access log tells of it")
    assert lines(log)[-1]["received"] == 300_000
    push_blob(server, "a/b", BODY)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_client_that_never_finishes_its_request_is_cut_off(servers: Servers, sent: bytes) -> None:
    server = servers(env={"OCIAPPR_SERVER__KEEPALIVE": "300ms"})
    connection = connect(server)
    connection.sendall(sent)
    assert ends(connection) == b""


@pytest.mark.slow
def test_an_idle_connection_is_closed(servers: Servers) -> None:
    server = servers(env={"OCIAPPR_SERVER__KEEPALIVE": "300ms"})
    with closing(kept(server)) as idle:
        assert idle.sock.recv(1) == b""


@pytest.mark.slow
def test_a_worker_tells_once_that_it_stops(servers: Servers) -> None:
    server = servers()
    assert servers.stop(server) == 0
    told = [line["message"] for line in lines(server.data.parent / "server-0.log")[-1:]]
    assert re.fullmatch("stopping: no new connections, 30s for what runs", told[0])
