"""The appr command line as people use it: a command, then a package of the server under test."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.conftest import Ran, Run
from conformance.wire import Server, expect, fetch

API: Final = "/cnr/api/v1/packages"


@dataclass(frozen=True, slots=True)
class Appr:
    """The client, bound to one server and one package of it."""

    run: Run
    program: str
    server: Server
    package: str

    def __call__(
        self, command: str, *words: str | Path, cwd: Path | None = None, fails: bool = False
    ) -> Ran:
        """Run a command of several words; a word ``@...``, ``:...`` or ``.`` names the package."""
        argv = [self._named(word) if isinstance(word, str) else word for word in words]
        return self.run(self.program, *command.split(), *argv, cwd=cwd, fails=fails)

    def push(self, folder: Path, *words: str) -> Ran:
        """Push what lies in `folder` as the package."""
        return self("push", ".", *words, cwd=folder)

    def pull(self, suffix: str, media_type: str, folder: Path) -> bytes:
        """Pull an archive into a new directory and return its bytes."""
        folder.mkdir(parents=True)
        printed = self("pull", suffix, "-t", media_type, "--tarball", "--dest", folder).stdout
        (archive,) = folder.iterdir()
        assert printed == f"Pull package: {self.package}... \n{archive}\n"
        return archive.read_bytes()

    def blob(self, release: str, media_type: str) -> bytes:
        """Return the archive as the API serves it, with no client between."""
        path = f"{API}/{self.package}/{release}/{media_type}/pull"
        return expect(fetch(self.server, "GET", path), 200).body

    def _named(self, word: str) -> str:
        is_package = word == "." or word.startswith(("@", ":"))
        return f"{self.server.url}/{self.package}{word.removeprefix('.')}" if is_package else word


def content_digest(archive: bytes) -> str:
    """Return what appr calls the digest of an archive: of the tar inside, without a prefix."""
    return hashlib.sha256(gzip.decompress(archive)).hexdigest()


def rows(printed: str) -> list[list[str]]:
    """Return the cells of the table that a command printed, without its head."""
    lines = printed.splitlines()
    ruler = next(number for number, line in enumerate(lines) if line.startswith("---"))
    return [line.split() for line in lines[ruler + 1 :]]
