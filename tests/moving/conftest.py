"""Worlds to move between, as the tests of the core have them."""

from tests.core.conftest import file_worlds, files, memory, memory_worlds, registry, world

__all__ = ["file_worlds", "files", "memory", "memory_worlds", "registry", "world"]
