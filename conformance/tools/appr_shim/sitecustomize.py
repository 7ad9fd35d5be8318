"""Let the unmodified appr client 0.7.4, written for Python 2, run on Python 3.11.

Python imports this at start, before the client; each patch restores what its modules expect.
"""

from __future__ import annotations

import argparse
import builtins
import json
import subprocess
import sys
import tarfile
import types
from typing import Any

import yaml


def _ensure_value(namespace: argparse.Namespace, name: str, value: object) -> object:
    if getattr(namespace, name, None) is None:
        setattr(namespace, name, value)
    return getattr(namespace, name)


def _json_default(encoder: json.JSONEncoder, value: object) -> object:
    return value.decode() if isinstance(value, bytes) else _refuse(encoder, value)


def _check_output(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passed on
    return _run_for_output(*args, **kwargs | {"universal_newlines": True})


def _load(stream: object, Loader: Any = yaml.SafeLoader) -> Any:  # noqa: ANN401, N803 - yaml's name
    return _load_with(stream, Loader)


def _extract(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> Any:  # noqa: ANN401
    stream = _extract_member(archive, member)
    if stream is not None:
        stream.raw.name = member if isinstance(member, str) else member.name
    return stream


_refuse = json.JSONEncoder.default
_run_for_output: Any = subprocess.check_output
_load_with: Any = yaml.load
_extract_member: Any = tarfile.TarFile.extractfile

# its command line: text types, and names that argparse lost
builtins.basestring = builtins.unicode = str  # type: ignore[attr-defined]
argparse.ArgumentTypeError.message = property(str)  # type: ignore[attr-defined]
argparse._ensure_value = _ensure_value  # type: ignore[attr-defined]  # noqa: SLF001

# its packages: base64 text and output of commands come as bytes
json.JSONEncoder.default = _json_default  # type: ignore[assignment, method-assign]
subprocess.check_output = _check_output

# its manifests: yaml.load without a loader, views of a mapping, names of extracted files
yaml.load = _load
yaml.SafeDumper.add_representer(
    type({}.values()), lambda dumper, values: dumper.represent_list(list(values))
)
tarfile.TarFile.extractfile = _extract  # type: ignore[assignment, method-assign]

# its server, which the client imports but does not use, needs gevent
_server = types.ModuleType("appr.api.gevent_app")
_server.GeventApp = None  # type: ignore[attr-defined]
sys.modules["appr.api.gevent_app"] = _server
