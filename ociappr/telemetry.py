"""What the server tells of itself: log lines, one per request among them, and metrics.

No header, no body and no query value is ever logged, so no credential can be; what a client chose
is escaped so no line can be forged.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ociappr.http import request_id

ACCESS_LOG = "ociappr.access"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)
_DOORS: Mapping[str, str] = {"v2": "oci", "api": "appr", "cnr": "appr", "appr": "appr"}
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})


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
        return json.dumps(line)


class TextFormatter(logging.Formatter):
    """A line for people; what a client chose is quoted."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        told = " ".join(f"{k}={v!a}" for k, v in getattr(record, "fields", {}).items())
        line = f"{moment} {record.levelname.lower():7} {record.getMessage()} {told}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


_FORMATTERS: dict[str, type[logging.Formatter]] = {"json": JSONFormatter, "text": TextFormatter}


def configure(level: str, format_: str, *, access: bool) -> None:
    """Send all log lines to standard error; *format_* is ``json`` or ``text``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS[format_]())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger(ACCESS_LOG).setLevel(logging.INFO if access else logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class Metrics:
    """Counters of this process, in Prometheus' text format."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("door", "method", "status")
        self._requests = Counter(
            "ociappr_requests_total", "Requests answered.", labels, registry=self._registry
        )
        self._seconds = Histogram(
            "ociappr_request_seconds",
            "Time from request line to last byte.",
            ("door", "method"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._sent = Counter(
            "ociappr_sent_bytes_total", "Bytes sent in bodies.", ("door",), registry=self._registry
        )
        self._collected = Gauge(
            "ociappr_collector_last_run",
            "What the last run of the collector did.",
            ("what",),
            registry=self._registry,
        )
        self._children = lru_cache(maxsize=1_000)(self._label)

    def request(self, door: str, method: str, status: int, sent: int, seconds: float) -> None:
        """Count one answered request."""
        requests, durations, bytes_sent = self._children(door, method, status)
        requests.inc()
        durations.observe(seconds)
        bytes_sent.inc(sent)

    def _label(self, door: str, method: str, status: int) -> tuple[Counter, Histogram, Counter]:
        known = method if method in _METHODS else "other"
        return (
            self._requests.labels(door, known, str(status)),
            self._seconds.labels(door, known),
            self._sent.labels(door),
        )

    def collected(self, figures: dict[str, int]) -> None:
        """Keep the figures of a run of the collector."""
        for what, number in figures.items():
            self._collected.labels(what).set(number)

    def render(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self._registry)


METRICS = web.AppKey("metrics", Metrics)


_UNREAD = "UNKNOWN"  # aiohttp's method for what was no HTTP, such as a TLS greeting; it has no app


def _json_line(fields: Mapping[str, object]) -> bytes:
    return msgspec.json.encode(fields)


def _text_line(fields: Mapping[str, object]) -> bytes:
    return " ".join(f"{name}={value!a}" for name, value in fields.items()).encode()


_LINES: Mapping[str, Callable[[Mapping[str, object]], bytes]] = {
    "json": _json_line,
    "text": _text_line,
}


def _sent(request: web.BaseRequest, response: web.StreamResponse) -> int:
    """Return the bytes of the body; aiohttp does not count what went out with the headers."""
    promised = 0 if request.method == "HEAD" else response.content_length or 0
    return max(response.body_length, promised)


class AccessLogger(AbstractAccessLogger):
    """Counts every request and writes its line; aiohttp makes one and calls it at each end.

    *log_format* is ``json`` or ``text``. The lines of one turn of the loop are written together,
    past the machinery of `logging`, which would cost as much as the request itself.
    """

    def __init__(self, logger: logging.Logger, log_format: str) -> None:
        super().__init__(logger, log_format)
        self._line = _LINES[log_format]
        self._told = logger.isEnabledFor(logging.INFO)
        self._waiting: list[bytes] = []

    @property
    def enabled(self) -> bool:
        """Whether to be called: always, for the counters."""
        return True

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Tell of *request*, answered in *time* seconds."""
        path = request.rel_url.raw_path
        sent = _sent(request, response)
        metrics = None
        if isinstance(request, web.Request) and request.method != _UNREAD:
            metrics = request.app.get(METRICS)
        if metrics is not None:
            door = _DOORS.get(path[1:].partition("/")[0], "other")
            metrics.request(door, request.method, response.status, sent, time)
        if not self._told:
            return
        fields = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "logger": ACCESS_LOG,
            "method": request.method,
            "path": path,
            "status": response.status,
            "sent": sent,
            "seconds": round(time, 6),
            "remote": request.remote,
            "agent": request.headers.get("User-Agent", ""),
            "request": request_id(request),
        }
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._write)
        self._waiting.append(self._line(fields))

    def _write(self) -> None:
        lines, self._waiting = self._waiting, []
        sys.stderr.buffer.write(b"\n".join(lines) + b"\n")
        sys.stderr.buffer.flush()
