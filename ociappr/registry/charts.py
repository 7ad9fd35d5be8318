"""Charts: from the Chart.yaml of an archive to the config of a Helm OCI chart, deterministically.

A chart whose Chart.yaml Helm would not load is none, and stored like any other package: aliases
(200 bytes of them become megabytes of JSON), deep nesting, fields of a wrong shape, no name or
version. Fields that Helm does not know are left out, as by ``helm push``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import yaml

from ociappr.manifest import encode

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEPTH = 20
_NULL, _BOOL = "tag:yaml.org,2002:null", "tag:yaml.org,2002:bool"
_TRUE = frozenset({"true", "yes", "on"})


class _Unreadable(Exception):
    """Helm would not load this."""


_Shape = Callable[[yaml.Node], object]


def config_of(chart: bytes) -> bytes | None:
    """Return the config blob for the Chart.yaml *chart*, or None if Helm would not load that."""
    try:
        text = chart.decode("utf-8-sig")
        _guard(text)
        root = yaml.compose(text, Loader=_LOADER)
        metadata = _METADATA(root) if root is not None else {}
    except (yaml.YAMLError, UnicodeDecodeError, _Unreadable):
        return None
    if not isinstance(metadata, dict) or not metadata.get("name") or not metadata.get("version"):
        return None
    return encode(metadata)


def _guard(text: str) -> None:
    """Raise `_Unreadable` for what must not reach the composer: aliases and deep nesting."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise _Unreadable
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEPTH:
            raise _Unreadable


def _string(node: yaml.Node) -> str:
    """Return a scalar's own text: ``appVersion: 1.10`` is not 1.1."""
    if not isinstance(node, yaml.ScalarNode):
        raise _Unreadable
    return str(node.value)


def _boolean(node: yaml.Node) -> bool:
    if node.tag != _BOOL:
        raise _Unreadable
    return str(node.value).lower() in _TRUE


def _list(shape: _Shape) -> _Shape:
    def read(node: yaml.Node) -> list[object]:
        if not isinstance(node, yaml.SequenceNode):
            raise _Unreadable
        return [shape(item) for item in node.value]

    return read


def _pairs(node: yaml.Node) -> dict[str, yaml.Node]:
    """Return the fields of a mapping that are not null; of a repeated one the last."""
    if not isinstance(node, yaml.MappingNode):
        raise _Unreadable
    return {_string(key): value for key, value in node.value if value.tag != _NULL}


def _strings(node: yaml.Node) -> dict[str, str]:
    return {key: _string(value) for key, value in _pairs(node).items()}


def _string_or_strings(node: yaml.Node) -> str | dict[str, str]:
    return _strings(node) if isinstance(node, yaml.MappingNode) else _string(node)


def _struct(fields: Mapping[str, _Shape]) -> _Shape:
    def read(node: yaml.Node) -> dict[str, object]:
        found = _pairs(node)
        return {name: shape(found[name]) for name, shape in fields.items() if name in found}

    return read


_MAINTAINER = _struct({"name": _string, "email": _string, "url": _string})
_DEPENDENCY = _struct(
    {
        "name": _string,
        "version": _string,
        "repository": _string,
        "condition": _string,
        "tags": _list(_string),
        "enabled": _boolean,
        "import-values": _list(_string_or_strings),
        "alias": _string,
    }
)
# helm.sh/docs/topics/charts, The Chart.yaml File
_METADATA = _struct(
    {
        "name": _string,
        "home": _string,
        "sources": _list(_string),
        "version": _string,
        "description": _string,
        "keywords": _list(_string),
        "maintainers": _list(_MAINTAINER),
        "icon": _string,
        "apiVersion": _string,
        "condition": _string,
        "tags": _string,
        "appVersion": _string,
        "deprecated": _boolean,
        "annotations": _strings,
        "kubeVersion": _string,
        "dependencies": _list(_DEPENDENCY),
        "type": _string,
    }
)
