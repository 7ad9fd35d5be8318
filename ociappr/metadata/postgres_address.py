"""From a URL to what asyncpg is told: where the server is, which schema, how TLS is spoken."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import parse_qsl, urlencode, urlsplit

_OPTIONS = ("schema", "sslmode", "sslcert", "sslkey", "host", "port")
_Mode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
_MODES: tuple[_Mode, ...] = get_args(_Mode)
_UNVERIFIED = _MODES[:3]
_SCHEMA = "ociappr"
_NAME = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Address:
    """One registry in one schema of one database; *place* tells people, without the password."""

    dsn: str
    place: str
    schema: str
    tls: ssl.SSLContext | _Mode | None

    @classmethod
    def parse(cls, url: str, *, ca_file: str) -> Address:
        """Return what *url* says; raise `ValueError` for what cannot be."""
        parts = urlsplit(url)
        if parts.fragment or parts.netloc.count("@") > 1 or "@" in parts.path + parts.query:
            raise ValueError("write @ / ? # in a name or password as %40 %2F %3F %23")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := options.keys() - set(_OPTIONS):
            raise ValueError(f"?{min(unknown)}= is none of {', '.join(_OPTIONS)}")
        schema = options.pop("schema", _SCHEMA)
        if not _NAME.fullmatch(schema):
            raise ValueError(f"schema {schema!r} is not made of a-z, 0-9 and _")
        tls = _tls(options, ca_file)
        options.pop("sslmode", None)
        dsn = parts._replace(query=urlencode(options)).geturl()
        hosts = parts.netloc.rpartition("@")[2] or options.get("host", "")
        return cls(dsn, f"{hosts}{parts.path}, schema {schema}", schema, tls)


def _tls(options: Mapping[str, str], ca_file: str) -> ssl.SSLContext | _Mode | None:
    """Return asyncpg's own word for TLS that verifies nothing, else a context that does."""
    asked = options.get("sslmode")
    mode = next((mode for mode in _MODES if mode == asked), None)
    if asked != mode:
        raise ValueError(f"sslmode {asked!r} is none of {', '.join(_MODES)}")
    if ca_file and mode in _UNVERIFIED:
        raise ValueError(f"sslmode={mode} would not ask metadata.ca_file: say verify-full")
    if not ca_file and (mode is None or not mode.startswith("verify-")):
        return mode
    context = ssl.create_default_context()
    context.check_hostname = mode in (None, "verify-full")
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
        if "sslcert" in options:
            context.load_cert_chain(options["sslcert"], options.get("sslkey"))
    except OSError as error:
        raise ValueError(f"cannot read the certificates: {error}") from error
    return context
