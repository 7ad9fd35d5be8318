"""What the server tells of itself: log lines, one per request among them, and metrics.

No header but ``User-Agent``, no body and no query is ever logged, so no credential can be; what a
client chose is escaped and cut, so that no line can be forged or torn.
"""

from __future__ import annotations

import asyncio
import json
import logging
import select
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from io import FileIO
from itertools import accumulate

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from ociappr.forwarded import TrustedProxies
from ociappr.http import request_id

ACCESS_LOG = "ociappr.access"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)
_DOORS: Mapping[str, str] = {
    "v2": "oci",
    "livez": "server",
    "readyz": "server",
    "metrics": "server",
}
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
_LONGEST_PATH = 1024
_LONGEST_AGENT = 256
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_SEPARATORS = {0x2028: "\\u2028", 0x2029: "\\u2029"}

# -- the log -------------------------------------------------------------------------------------


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and what the record carries."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


_MOMENT = "%Y-%m-%dT%H:%M:%S"


class TextFormatter(logging.Formatter):
    """A line for people; control characters are escaped, tracebacks indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, UTC).strftime(_MOMENT)
        told = " ".join(f"{k}={v!a}" for k, v in getattr(record, "fields", {}).items())
        message = record.getMessage().translate(_CONTROLS | _SEPARATORS)
        line = f"{moment} {record.levelname.lower():7} {message} {told}".rstrip()
        if record.exc_info:
            traceback = self.formatException(record.exc_info).splitlines()
            line += "".join(f"\n    {one.translate(_CONTROLS)}" for one in traceback)
        return line


_FORMATTERS: dict[str, type[logging.Formatter]] = {"json": JSONFormatter, "text": TextFormatter}


def configure(level: str, form: str) -> None:
    """Send all log lines to standard error; *form* is ``json`` or ``text``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS[form]())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("asyncio", "botocore", "aiobotocore"):  # in debug they tell of every step
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").addFilter(_is_ours)


def _is_ours(record: logging.LogRecord) -> bool:
    """Tell whether a record is no mere malformed request, of which the access log tells."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


# -- metrics -------------------------------------------------------------------------------------


class _Row:
    """What was counted of the requests that share their labels."""

    __slots__ = ("buckets", "received", "requests", "seconds", "sent")

    def __init__(self) -> None:
        self.requests = 0
        self.received = 0
        self.sent = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(_BUCKETS) + 1)


class Metrics:
    """Counters of one worker process, in Prometheus' text format.

    They are plain numbers until somebody asks: prometheus-client's own counters cost a manifest GET
    a tenth of its time. *worker* is a label of all of them, for each worker answers for itself.
    """

    def __init__(self, worker: int = 0) -> None:
        self._worker = str(worker)
        self._rows: dict[tuple[str, str, int], _Row] = {}
        self._collected: dict[str, int] = {}
        self._retained: dict[str, int] = {}
        self._unwritten = 0
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def request(
        self, door: str, method: str, status: int, *, received: int, sent: int, seconds: float
    ) -> None:
        """Count one answered request."""
        row = self._rows.get((door, method, status))
        if row is None:
            known = method if method in _METHODS else "other"
            row = self._rows.setdefault((door, known, status), _Row())
        row.requests += 1
        row.received += received
        row.sent += sent
        row.seconds += seconds
        row.buckets[bisect_left(_BUCKETS, seconds)] += 1

    def collected(self, figures: Mapping[str, int]) -> None:
        """Add the figures of a run of the collector."""
        _add(self._collected, {"runs": 1, **figures})

    def retained(self, figures: Mapping[str, int]) -> None:
        """Add the figures of a run of retention."""
        _add(self._retained, {"runs": 1, **figures})

    def unwritten(self, lines: int) -> None:
        """Count lines of the access log that could not be written."""
        self._unwritten += lines

    def render(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; prometheus-client asks for them."""
        labels = ["door", "method", "status", "worker"]
        requests = CounterMetricFamily("ociappr_requests", "Requests answered.", labels=labels)
        seconds = HistogramMetricFamily(
            "ociappr_request_seconds", "From request line to last byte.", labels=labels
        )
        received = CounterMetricFamily("ociappr_received_bytes", "Bodies read.", labels=labels)
        sent = CounterMetricFamily("ociappr_sent_bytes", "Bodies sent.", labels=labels)
        for (door, method, status), row in self._rows.items():
            values = [door, method, str(status), self._worker]
            requests.add_metric(values, row.requests)
            bounds = [*map(str, _BUCKETS), "+Inf"]
            buckets = list(zip(bounds, accumulate(row.buckets), strict=True))
            seconds.add_metric(values, buckets, row.seconds)
            received.add_metric(values, row.received)
            sent.add_metric(values, row.sent)
        yield from (requests, seconds, received, sent)
        yield self._figures("ociappr_collector", "What the collector did.", self._collected)
        yield self._figures("ociappr_retention", "What retention did.", self._retained)
        lost = GaugeMetricFamily(
            "ociappr_access_lines_lost", "Lines that could not be written.", labels=["worker"]
        )
        lost.add_metric([self._worker], self._unwritten)
        yield lost

    def _figures(self, name: str, text: str, figures: Mapping[str, int]) -> Metric:
        family = CounterMetricFamily(name, text, labels=["what", "worker"])
        for what, number in figures.items():
            family.add_metric([what, self._worker], number)
        return family


def _add(total: dict[str, int], figures: Mapping[str, int]) -> None:
    for what, number in figures.items():
        total[what] = total.get(what, 0) + number


# -- the access log ------------------------------------------------------------------------------


class _Line(msgspec.Struct):
    """One request; sizes in bytes of bodies."""

    time: str
    level: str
    logger: str
    method: str
    path: str
    status: int
    received: int
    sent: int
    seconds: float
    remote: str
    agent: str
    request: str


_FORWARDED = "X-Forwarded-For"
_encode = msgspec.json.Encoder().encode


def _text(line: _Line) -> bytes:
    """Return the line as `TextFormatter` would write it."""
    names = _Line.__struct_fields__[3:]
    told = " ".join(f"{name}={getattr(line, name)!a}" for name in names)
    return f"{line.time[:19]} {line.level:7} {told}".encode()


_FORMS: Mapping[str, Callable[[_Line], bytes]] = {"json": _encode, "text": _text}


class AccessLog:
    """Counts every request, and writes its line to *stream* in *form*, ``json`` or ``text``.

    The lines of one turn of the loop are written together, past the machinery of `logging`, which
    would cost as much as the request itself. With no *stream* they are only counted.
    """

    def __init__(
        self,
        metrics: Metrics,
        form: str,
        stream: FileIO | None,
        *,
        proxies: TrustedProxies = TrustedProxies(),  # noqa: B008 - it never changes
    ) -> None:
        self._metrics = metrics
        self._form = _FORMS[form]
        self._stream = stream
        self._proxies = proxies
        self._waiting: list[bytes] = []
        self._second = 0
        self._prefix = ""

    def tell(self, request: web.BaseRequest, response: web.StreamResponse, seconds: float) -> None:
        """Tell of *request*, answered by *response* after that many *seconds*."""
        path = request.rel_url.raw_path
        door = _DOORS.get(path[1:].partition("/")[0], "appr")
        received, sent = request.content.total_bytes, _sent(request, response)
        self._metrics.request(
            door, request.method, response.status, received=received, sent=sent, seconds=seconds
        )
        if self._stream is None:
            return
        line = _Line(
            self._now(),
            "info",
            ACCESS_LOG,
            _safe(request.method, _LONGEST_AGENT),
            _safe(path, _LONGEST_PATH),
            response.status,
            received,
            sent,
            round(seconds, 6),
            self._client(request),
            _safe(request.headers.get("User-Agent", ""), _LONGEST_AGENT),
            request_id(request),
        )
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append(self._form(line))

    def _client(self, request: web.BaseRequest) -> str:
        peer = request.remote or ""
        if _FORWARDED not in request.headers:  # which are a plain dict where the head was malformed
            return peer
        return self._proxies.client(peer, request.headers.getall(_FORWARDED))

    def flush(self) -> None:
        """Write what waits; a log that cannot be written does not stop the answers."""
        lines, self._waiting = self._waiting, []
        for portion in _portions(lines):
            try:
                written = self._stream.write(portion) if self._stream else None
            except OSError:
                written = None
            if written != len(portion):
                self._metrics.unwritten(portion.count(b"\n"))

    def _now(self) -> str:
        """Return the time in ISO 8601, like every other line's."""
        now = time.time_ns() // 1_000_000
        second = now // 1000
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._prefix}.{now % 1000:03d}+00:00"


def _portions(lines: Sequence[bytes]) -> Iterator[bytes]:
    """Yield whole lines, as many together as a pipe takes at once: workers may share one."""
    portion = b""
    for line in lines:
        if portion and len(portion) + len(line) >= select.PIPE_BUF:
            yield portion
            portion = b""
        portion += line + b"\n"
    if portion:
        yield portion


def access_logger(log: AccessLog) -> type[AbstractAccessLogger]:
    """Return the class that aiohttp makes one object of for each connection; all tell *log*."""

    class AccessLogger(AbstractAccessLogger):
        def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
            log.tell(request, response, time)

    return AccessLogger


def _safe(text: str, longest: int) -> str:
    """Return *text* in ASCII and cut: a client may send any bytes, of any length."""
    if len(text) > longest:
        text = f"{text[:longest]}..."
    return text if text.isascii() else text.encode("ascii", "backslashreplace").decode()


def _sent(request: web.BaseRequest, response: web.StreamResponse) -> int:
    """Return the bytes of the body; what aiohttp counts holds the head, but no file."""
    if request.method == "HEAD":
        return 0
    promised = response.content_length
    return response.body_length if promised is None else promised
