"""Settings by their keys: which there are, what is in effect, and who set it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import get_args

import msgspec

from ociappr.config.secret import shown
from ociappr.config.sections import Config, Section


def fields(section: type[msgspec.Struct] = Config, prefix: str = "") -> dict[str, object]:
    """Return every key, as ``section.name``, with its type."""
    found: dict[str, object] = {}
    for one in msgspec.structs.fields(section):
        kind = one.type
        if isinstance(kind, type) and issubclass(kind, Section):
            found |= fields(kind, f"{prefix}{one.name}.")
        else:
            choices = [choice for choice in get_args(kind) if choice is not NoneType]
            found[prefix + one.name] = choices[0] if isinstance(kind, UnionType) else kind
    return found


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective value, and who set it."""

    key: str
    value: object
    origin: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The configuration, and where each value that is no default came from."""

    config: Config
    origins: Mapping[str, str] = field(default_factory=dict)

    def settings(self) -> Iterator[Setting]:
        """Yield every setting with its effective value and its origin, in their order."""
        for key in fields():
            value: object = self.config
            for name in key.split("."):
                value = getattr(value, name)
            if (effective := _EFFECTIVE.get(key)) is not None:
                value = effective(self.config)
            yield Setting(key, value, self.origins.get(key, "default"))


# settings whose default depends on others
_EFFECTIVE: Mapping[str, Callable[[Config], object]] = {
    "storage.url": lambda config: shown(config.storage_url),
    "metadata.url": lambda config: shown(config.metadata_url),
    "limits.inline": lambda config: config.inline,
}
