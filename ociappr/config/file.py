"""Settings from a YAML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ociappr.config.errors import ConfigError
from ociappr.config.settings import fields


def from_file(path: Path) -> dict[str, object]:
    """Return what the file says, by keys; raise `ConfigError` if it cannot be read."""
    import yaml  # noqa: PLC0415 - start-up time of those who have no file

    try:
        text = path.read_text(encoding="utf-8")
        _refuse_duplicates(yaml.compose(text, Loader=yaml.SafeLoader), path)
        document = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: the top level is no mapping of sections")
    return dict(_flat(document, path))


def _refuse_duplicates(node: object, path: Path, prefix: str = "") -> None:
    """Raise `ConfigError` for a key that stands twice, of which YAML readers keep the last."""
    import yaml  # noqa: PLC0415 - as above

    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _refuse_duplicates(item, path, f"{prefix.removesuffix('.')}[{number}].")
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if name in seen:
            raise ConfigError(f"{name}: stands twice (from {path})")
        seen.add(name)
        _refuse_duplicates(value, path, f"{name}.")


def _flat(
    document: Mapping[object, object], path: Path, prefix: str = ""
) -> Iterator[tuple[str, object]]:
    sections = {key[:at] for key in fields() for at, letter in enumerate(key) if letter == "."}
    for name, value in document.items():
        if not isinstance(name, str) or "." in name:
            raise ConfigError(f"{prefix}{name}: there is no such setting (from {path})")
        if isinstance(value, dict):
            yield from _flat(value, path, f"{prefix}{name}.")
        elif value is not None or f"{prefix}{name}" not in sections:  # a section may be empty
            yield f"{prefix}{name}", value
