"""Where a registry's metadata are in Redis, as a URL names it."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

_PORT = 6379
_FORM = "redis://[user@]host[:port][/number][?name=ociappr]"


@dataclass(frozen=True, slots=True)
class Place:
    """A server, who enters it, a database of it, and the name of the registry there."""

    host: str
    port: int
    tls: bool
    user: str | None
    password: str | None = field(repr=False)
    database: int
    name: str

    @classmethod
    def of(cls, url: str, *, password: str = "") -> Place:
        """Return what *url* names, *password* going before its own; raise `ValueError`."""
        wrong = f"this reads {_FORM}, with rediss:// for TLS; in passwords, / ? # and @ are escaped"
        try:
            parts = urlsplit(url)
            port = parts.port or _PORT
        except ValueError:  # its own message may show a password
            raise ValueError(wrong) from None
        query = parse_qs(parts.query, keep_blank_values=True)
        name = query.pop("name", ["ociappr"])[-1]
        database = parts.path.removeprefix("/") or "0"
        if not parts.hostname or query or parts.fragment or not database.isdecimal():
            raise ValueError(wrong)
        if not name or set(name) & set("{}"):
            raise ValueError(f"name={name} cannot be: a name is not empty and has no braces")
        return cls(
            host=parts.hostname,
            port=port,
            tls=parts.scheme == "rediss",
            user=unquote(parts.username) if parts.username else None,
            password=password or (unquote(parts.password) if parts.password else None),
            database=int(database),
            name=name,
        )

    def key(self, part: str) -> str:
        """Return the key of a part of the registry; all have one hash tag, so one slot."""
        return f"{{{self.name}}}:{part}"

    def __str__(self) -> str:
        """Return what messages call it."""
        return f"Redis at {self.host}:{self.port}"
