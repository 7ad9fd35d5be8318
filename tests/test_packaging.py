"""What is installed is exactly what the lock files name, whatever was published since."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock")


@pytest.mark.parametrize("file", ["Makefile", "Dockerfile"])
def test_a_lock_is_installed_without_looking_for_anything_else(file: str) -> None:
    """With extras in a name, pip takes the newest release before the pin, and then fails."""
    installs = [
        line for line in (ROOT / file).read_text().splitlines() if "--require-hashes" in line
    ]
    assert installs
    assert all("--no-deps" in line for line in installs)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    pins = re.findall(r"^[a-z0-9][^\n]*?(?:\\\n.*?)*$", text, re.MULTILINE)
    assert pins
    assert [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []
    assert "://" not in text


def test_both_locks_agree() -> None:
    texts = [(ROOT / lock).read_text() for lock in LOCKS]
    serve, develop = (dict(re.findall(r"^(\S+)==(\S+)", text, re.MULTILINE)) for text in texts)
    assert serve.items() <= develop.items()
