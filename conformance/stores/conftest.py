"""What the tests of stores can ask for: a program of somebody else's, or a visible reason."""

from __future__ import annotations

import os

import pytest

from conformance.backends.daemon import program


def require(name: str) -> None:
    """Return if the tool *name* is installed; without it fail in CI, else skip with the hint."""
    try:
        program(name)
    except LookupError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
