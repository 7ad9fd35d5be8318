"""Requests to etcd's JSON gateway: which endpoint, which token, and what its errors mean."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import msgspec
from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorError,
    ClientError,
    ClientSession,
    ConnectionTimeoutError,
)

from ociappr.errors import OciapprError, StoreFull, StoreUnavailable, TooLarge
from ociappr.metadata.etcd_wire import Failure, Login, Range, Reply, Token, Txn

T = TypeVar("T")

_PORT = 2379
_LOGINS = 3  # for one request: a member may learn of a token a little later than it is used
_REPLY = msgspec.json.Decoder(Reply, strict=False)  # 64 bits do not fit a number of JavaScript
_TOKEN = msgspec.json.Decoder(Token)
_FAILURE = msgspec.json.Decoder(Failure)

# what gRPC's codes are called there
_DEADLINE_EXCEEDED, _UNAVAILABLE = 4, 14


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL says: where etcd listens, who asks, and what all keys begin with."""

    endpoints: tuple[str, ...]
    user: str
    password: str
    prefix: bytes

    @classmethod
    def parse(cls, url: str) -> Place:
        """Return what *url* says; raise `ValueError` that tells how it must read."""
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        user, _, password = map(unquote, login.partition(":"))
        prefix = unquote(parts.path).strip("/")
        if not prefix or parts.query or parts.fragment or (password and not user):
            raise ValueError(f"it reads {parts.scheme}://[USER@]HOST:PORT[,HOST:PORT...]/PREFIX")
        scheme = "https" if parts.scheme == "etcds" else "http"
        endpoints = tuple(f"{scheme}://{_address(host)}" for host in hosts.split(","))
        return cls(endpoints, user, password, prefix.encode() + b"/")


def _address(text: str) -> str:
    """Return host and port of *text*, the default filled in; raise `ValueError`."""
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.path or "@" in text:
        raise ValueError(f"{text!r} is no HOST:PORT")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or _PORT}"


class Compacted(Exception):
    """The revision that was asked for is forgotten; ask again at a new one."""


class _TokenRefused(Exception):
    """The token is not valid any more; nothing was done."""


class _Unserved(Exception):
    """This member cannot tell or write anything now; another one may."""


_UNSENT = (ClientConnectorError, ConnectionTimeoutError)
_LOST = (ClientError, TimeoutError, _Unserved)

# a piece of etcd's message: what we do about it
_SIGNALS: Sequence[tuple[str, type[Exception]]] = (
    ("has been compacted", Compacted),
    ("invalid auth token", _TokenRefused),
    ("revision in header is old", _TokenRefused),
    ("revision of auth store is old", _TokenRefused),
)
# a piece of etcd's message: what it is to us, and what people can do about it
_MEANINGS: Sequence[tuple[str, type[OciapprError], str]] = (
    ("too many operations", TooLarge, "start etcd with --max-txn-ops 1024"),
    ("request is too large", TooLarge, "start etcd with --max-request-bytes 2097152"),
    ("message larger than max", TooLarge, "start etcd with --max-request-bytes 2097152"),
    (
        "database space exceeded",
        StoreFull,
        "compact and defragment etcd or raise --quota-backend-bytes, then disarm its alarm",
    ),
    ("user name is empty", StoreUnavailable, "name a user in metadata.url, and its password"),
    (
        "invalid user ID or password",
        StoreUnavailable,
        "correct the user in metadata.url or metadata.password",
    ),
    (
        "authentication is not enabled",
        StoreUnavailable,
        "take the user out of metadata.url, or enable authentication in etcd",
    ),
    (
        "permission denied",
        StoreUnavailable,
        "grant the user in metadata.url read and write below its prefix",
    ),
)


class Client:
    """Asks the endpoint that answered last, and the next one when that is safe."""

    def __init__(
        self, session: ClientSession, endpoints: Sequence[str], *, login: Login | None
    ) -> None:
        self._session = session
        self._endpoints = tuple(endpoints)
        self._preferred = 0
        self._login = login
        self._token = ""
        self._renewal = asyncio.Lock()

    async def read(self, path: str, message: Range | Txn) -> Reply:
        """Ask a question, of every endpoint if need be."""
        return _decoded(_REPLY, await self._authorized(path, message, again=_LOST))

    async def write(self, path: str, message: Txn) -> Reply:
        """Send what must not be sent twice: to another endpoint only if the first got nothing."""
        return _decoded(_REPLY, await self._authorized(path, message, again=_UNSENT))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._session.close()

    async def _authorized(
        self, path: str, message: Range | Txn, *, again: tuple[type[Exception], ...]
    ) -> bytes:
        body = msgspec.json.encode(message)
        for _ in range(_LOGINS):
            token = await self._current_token()
            try:
                return await self._ask(path, body, token=token, again=again)
            except _TokenRefused:
                if self._token == token:  # else another request was here before
                    self._token = ""
        raise StoreUnavailable("etcd: it takes none of the tokens that it gives")

    async def _current_token(self) -> str:
        """Return the token, or nothing where nobody logs in."""
        if self._login is None or self._token:
            return self._token
        async with self._renewal:
            if not self._token:
                body = msgspec.json.encode(self._login)
                answer = await self._ask("auth/authenticate", body, token="", again=_LOST)
                self._token = _decoded(_TOKEN, answer).token
            return self._token

    async def _ask(
        self, path: str, body: bytes, *, token: str, again: tuple[type[Exception], ...]
    ) -> bytes:
        """Return the first answer; after an error of *again* ask the next endpoint."""
        count = len(self._endpoints)
        first = self._preferred
        for turn in range(first, first + count):
            try:
                return await self._exchange(self._endpoints[turn % count], path, body, token=token)
            except _LOST as error:
                self._preferred = (turn + 1) % count
                if not isinstance(error, again) or turn == first + count - 1:
                    raise _lost(error) from error
        raise AssertionError("there is no endpoint")

    async def _exchange(self, endpoint: str, path: str, body: bytes, *, token: str) -> bytes:
        headers = {"Authorization": token} if token else {}
        url = f"{endpoint}/v3/{path}"
        async with self._session.post(
            url, data=BytesIO(body), headers=headers, allow_redirects=False
        ) as response:
            answer = await response.read()
        if response.status != HTTPStatus.OK:
            raise _meant(answer)
        return answer


def _lost(error: Exception) -> StoreUnavailable:
    """Return what this means in the port's words; the cause names hosts, so clients do not."""
    if isinstance(error, _Unserved):
        return StoreUnavailable(f"etcd: {error}")
    if isinstance(error, TimeoutError):
        return StoreUnavailable("etcd: no answer in time")
    if isinstance(error, ClientConnectorCertificateError):
        hint = "metadata.ca_file must name the authority that certified etcd"
        return StoreUnavailable("etcd: its certificate is not trusted", hint=hint)
    return StoreUnavailable("etcd: the connection failed")


def _decoded(decoder: msgspec.json.Decoder[T], answer: bytes) -> T:
    try:
        return decoder.decode(answer)
    except msgspec.DecodeError as error:
        hint = "metadata.url must name etcd 3.4 or newer, with its JSON gateway enabled"
        raise StoreUnavailable("etcd: this is no answer of its gateway", hint=hint) from error


def _meant(answer: bytes) -> Exception:
    """Return what a refusal means in the port's words."""
    failure = _decoded(_FAILURE, answer)
    message = failure.message.removeprefix("etcdserver: ")
    for piece, signal in _SIGNALS:
        if piece in message:
            return signal(message)
    for piece, kind, hint in _MEANINGS:
        if piece in message:
            return kind(f"etcd: {message}", hint=hint)
    if failure.code in (_DEADLINE_EXCEEDED, _UNAVAILABLE):
        return _Unserved(message)
    return StoreUnavailable(f"etcd: {message}")
