from __future__ import annotations

import pytest

from ociappr.metadata.memory import MemoryMetadata
from tests.contracts.metadata import MetadataContract


class TestMemory(MetadataContract):
    @pytest.fixture
    def store(self) -> MemoryMetadata:
        return MemoryMetadata()
