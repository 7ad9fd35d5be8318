from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.http_exceptions import BadStatusLine
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from ociappr.telemetry import (
    AccessLog,
    JSONFormatter,
    Metrics,
    TextFormatter,
    access_logger,
    configure,
)

CHOSEN = st.text() | st.sampled_from(["\r\nforged", "\x1b[2J", "\u2028x", '"}\n{"a": "', "\udcff"])


def record(message: str, error: BaseException | None = None, **fields: object) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("ociappr", logging.INFO, "", 0, "%s", (message,), exc_info)
    made.fields = fields
    return made


@given(CHOSEN)
def test_a_json_line_is_one_object(message: str) -> None:
    line = JSONFormatter().format(record(message, chosen=message))
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    assert (found["message"], found["level"], found["logger"]) == (message, "info", "ociappr")
    assert found["chosen"] == message


@given(CHOSEN)
def test_a_text_line_is_one_line(message: str) -> None:
    line = TextFormatter().format(record(message, chosen=message))
    assert len(line.splitlines()) == 1


@given(CHOSEN)
def test_tracebacks_are_no_lines_of_their_own(message: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - its message is any text
        int(f"no number {message}")
    text = TextFormatter().format(record("failed", raised.value))
    as_json = JSONFormatter().format(record("failed", raised.value))
    first, *rest = text.splitlines()
    assert first.endswith("info    failed")
    assert rest
    assert all(line.startswith("    ") for line in rest)
    assert "ValueError" in json.loads(as_json)["exception"]


@pytest.fixture
def restored() -> Iterator[None]:
    """Undo what configures logging for the whole process."""
    root, aiohttp = logging.getLogger(), logging.getLogger("aiohttp.server")
    before = root.level, root.handlers[:], aiohttp.filters[:]
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    aiohttp.filters[:] = before[2]


@pytest.mark.usefixtures("restored")
def test_malformed_requests_leave_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure("debug", "json")
    log = logging.getLogger("aiohttp.server")
    log.error("malformed", exc_info=BadStatusLine("x"))
    log.error("a bug", exc_info=ZeroDivisionError())
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "a bug"


@pytest.mark.usefixtures("restored")
def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning", "text")
    logging.getLogger("ociappr").info("unsaid")
    logging.getLogger("ociappr").warning("said")
    assert capsys.readouterr().err.split(maxsplit=1)[1] == "warning said\n"


def request(path: str = "/v2/", agent: str = "client") -> web.Request:
    return make_mocked_request("GET", path, headers={"User-Agent": agent})


async def test_lines_of_one_turn_are_written_together(tmp_path: Path) -> None:
    with FileIO(tmp_path / "log", "w") as stream:
        log = AccessLog(Metrics(), "json", stream)
        for number in range(40):
            log.tell(request(f"/v2/{number}"), web.Response(text="body"), 0.5)
        assert (tmp_path / "log").read_bytes() == b""
        await asyncio.sleep(0)  # the next turn of the loop
    found = [json.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert [line["path"] for line in found] == [f"/v2/{number}" for number in range(40)]
    assert {line["sent"] for line in found} == {4}


async def test_lines_that_share_a_pipe_are_not_torn() -> None:
    """Each write holds whole lines and no more than a pipe takes at once."""
    source, sink = os.pipe2(os.O_DIRECT)  # what is written at once is read at once
    with FileIO(source) as pipe, FileIO(sink, "w") as stream:
        log = AccessLog(Metrics(), "json", stream)
        for _ in range(10):
            log.tell(request("/v2/" + "x" * 5000, agent='"' * 5000), web.Response(), 0.5)
        log.flush()
        for _ in range(5):
            lines = pipe.read(65536)
            assert lines is not None
            assert lines.endswith(b"}\n")
            assert all(json.loads(line)["agent"] for line in lines.splitlines())


async def test_a_log_that_cannot_be_written_is_counted_and_stops_nothing() -> None:
    class Full(FileIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    metrics = Metrics()
    with Full(os.devnull, "w") as stream:
        log = AccessLog(metrics, "json", stream)
        log.tell(request(), web.Response(), 0.5)
        log.flush()
    assert b'ociappr_access_lines_lost{worker="0"} 1.0' in metrics.render()


async def test_one_log_serves_all_connections(tmp_path: Path) -> None:
    with FileIO(tmp_path / "log", "w") as stream:
        log = AccessLog(Metrics(), "text", stream)
        kind = access_logger(log)
        for _ in range(2):
            kind(logging.getLogger(), "").log(request(), web.Response(), 0.5)
        log.flush()
    assert len((tmp_path / "log").read_bytes().splitlines()) == 2


async def test_requests_are_counted_without_a_log() -> None:
    metrics = Metrics(worker=3)
    log = AccessLog(metrics, "json", None)
    log.tell(request(), web.Response(text="body"), 0.004)
    log.tell(request(), web.Response(text="body"), 700.0)
    log.flush()
    text = metrics.render().decode()
    labels = 'door="oci",method="GET",status="200",worker="3"'
    assert f"ociappr_requests_total{{{labels}}} 2.0" in text
    assert f"ociappr_sent_bytes_total{{{labels}}} 8.0" in text
    assert f"ociappr_request_seconds_sum{{{labels}}} 700.004" in text
    buckets = 'ociappr_request_seconds_bucket{{door="oci",le="{}",' + labels[11:] + "}} {}"
    for bound, count in (("0.0025", "0.0"), ("0.005", "1.0"), ("600", "1.0"), ("+Inf", "2.0")):
        assert buckets.format(bound, count) in text


def test_methods_that_clients_make_up_are_one_row() -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.request("oci", f"BREW{number}", 405, received=0, sent=0, seconds=0.1)
    text = metrics.render().decode()
    assert text.count("ociappr_requests_total{") == 1
    assert 'method="other",status="405",worker="0"} 1000.0' in text


def test_the_collector_s_figures_add_up() -> None:
    metrics = Metrics()
    metrics.collected({"freed": 3})
    metrics.collected({"freed": 4})
    text = metrics.render().decode()
    assert 'ociappr_collector_total{what="freed",worker="0"} 7.0' in text
    assert 'ociappr_collector_total{what="runs",worker="0"} 2.0' in text
