"""Who may import whom, and why: the layers of ARCHITECTURE.md as a test."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import ociappr

ROOT = Path(ociappr.__file__).parent
STANDARD = sys.stdlib_module_names

VALUES = {
    "archive",
    "descriptor",
    "digest",
    "errors",
    "manifest",
    "media",
    "names",
    "package",
    "releases",
}
PORTS = {"metadata", "blobstore", "access"}
FACES = {"distribution", "appr_api"}
ROOTS = {
    "__main__",
    "cli",
    "config",
    "schedule",
    "server",
    "sources",
    "stores",
    "telemetry",
    "workers",
}

BETWEEN = {"calls", "forwarded", "http", "legacy", "moving", "registry"}

# room -> (rooms of ours that it may import, libraries it may import, the reason)
RULES: dict[str, tuple[set[str], set[str], str]] = {
    **{
        name: (
            VALUES,
            {"msgspec", "semantic_version"},
            "values are what every room shares: they know no room and no protocol",
        )
        for name in VALUES
    },
    "metadata": (
        VALUES,
        {"aiohttp", "asyncpg", "msgspec", "redis"},  # etcd is spoken to in HTTP and JSON
        "a driver knows its own port, its own library and nothing above it",
    ),
    "blobstore": (
        VALUES,
        {"aiobotocore", "aiohttp", "botocore", "types_aiobotocore_s3"},
        "a driver knows its own port, the library of its server, and nothing above it",
    ),
    "access": (VALUES, set(), "decisions are pure: who, what, where, and no request"),
    "registry": (
        VALUES | PORTS,
        {"msgspec", "yaml"},
        "the core speaks to the ports, so that any driver serves, and knows no HTTP",
    ),
    "legacy": (
        VALUES | {"registry"},
        {"aiohttp", "msgspec", "redis"},
        "reads old layouts by the libraries of their stores and publishes through the core",
    ),
    "moving": (
        VALUES | PORTS | {"registry"},
        {"msgspec"},
        "it moves registries between any stores, so it knows the ports and the core's records only",
    ),
    "http": (VALUES | {"registry"}, {"aiohttp"}, "what the faces share of aiohttp"),
    "calls": (VALUES | {"access"}, {"aiohttp"}, "what the handlers of both faces are given"),
    **{
        name: (
            VALUES | {"registry", "access", "calls", "http", name},
            {"aiohttp", "msgspec", "multidict"},
            "a face translates one protocol: never another face, never a driver",
        )
        for name in FACES
    },
    "forwarded": (set(), set(), "who asked is a matter of addresses and a header, not of aiohttp"),
    "config": (
        VALUES | {"registry", "forwarded"},
        {"msgspec", "yaml"},
        "settings are read in one room; the core gets plain values",
    ),
    **{
        name: (
            VALUES
            | PORTS
            | FACES
            | ROOTS
            | {"registry", "calls", "http", "forwarded", "legacy", "moving"},
            {"aiohttp", "click", "msgspec", "prometheus_client", "rich", "yaml"},
            "roots put the parts together; only here a driver is named",
        )
        for name in ROOTS - {"config"}
    },
}


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Return the dotted names that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room is meant"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    ours, libraries, reason = RULES[room(path)]
    for name in imports(path):
        package, _, rest = name.partition(".")
        if package == "ociappr":
            target = rest.partition(".")[0]
            is_metadata = target in {"__version__", room(path)}
            assert is_metadata or target in ours, f"{name}: {reason}"
        elif package not in STANDARD:
            assert package in libraries, f"{name}: {reason}"


def test_drivers_are_named_in_one_place_only() -> None:
    drivers = {
        f"ociappr.{port}.{path.stem}"
        for port in ("metadata", "blobstore")
        for path in (ROOT / port).glob("*.py")
        if path.stem != "__init__"
    }
    for path in modules():
        if room(path) in {"metadata", "blobstore", "stores"}:
            continue
        named = {name for name in imports(path) if any(name.startswith(one) for one in drivers)}
        assert not named, f"{path.relative_to(ROOT)} names {named}: only stores.py chooses drivers"


def test_every_room_has_a_rule() -> None:
    assert {room(path) for path in modules()} == set(RULES)
