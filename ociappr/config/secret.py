"""What nothing shows: secrets, and the passwords in URLs."""

from __future__ import annotations


class Secret:
    """A text that nothing shows: a password. Every setting of this type also has a ``_file``."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    @classmethod
    def parse(cls, text: object) -> Secret:
        """Return the secret *text*; raise `ValueError` for what is no text."""
        if not isinstance(text, str):
            raise ValueError("what was given is not a text")  # noqa: TRY004 - as the others do
        return cls(text)

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __str__(self) -> str:
        """Return only whether there is one."""
        return "***" if self._text else ""


def shown(url: str) -> str:
    """Return *url* without the password that may stand in it."""
    place = url.partition("://")[2].partition("/")[0]
    user, at, host = place.rpartition("@")
    name, colon, _ = user.partition(":")
    return url.replace(place, f"{name}:***@{host}", 1) if at and colon else url
