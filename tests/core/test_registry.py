"""The contract of a registry, over memory, and over SQLite and files."""

from __future__ import annotations

from tests.contracts.registry import RegistryContract


class TestRegistry(RegistryContract):
    pass
