"""An old store on a filesystem: keys are paths below the directory that DATABASE_URL named."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Collection
from pathlib import Path

from ociappr.errors import StoreUnavailable
from ociappr.legacy import Lost
from ociappr.legacy.keyed import RELEASES


class FilesystemKeys:
    """The files below a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def get(self, key: str, *, limit: int) -> bytes | None:
        """Return the bytes of a file."""
        return await asyncio.to_thread(self._read, key, limit)

    async def packages(self, prefix: str) -> Collection[str]:
        """Return the packages that have releases; empty directories are left of failures."""
        return await asyncio.to_thread(self._packages, prefix)

    async def archives(self, prefix: str) -> Collection[str]:
        """Return the names of the files in a directory."""
        return await asyncio.to_thread(self._archives, prefix)

    async def close(self) -> None:
        """Do nothing: no file is open."""

    def _read(self, key: str, limit: int) -> bytes | None:
        path = self._root / key
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise Lost(f"{path} is no file")
            if found.st_size > limit:
                raise Lost(f"{path} has {found.st_size} bytes, more than {limit}")
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Lost(f"{path} cannot be read: {error.strerror}") from None

    def _packages(self, prefix: str) -> Collection[str]:
        root = self._root / prefix
        try:
            return [
                f"{namespace.name}/{package.name}"
                for namespace in root.iterdir()
                if namespace.is_dir()
                for package in namespace.iterdir()
                if (package / RELEASES).exists()
            ]
        except OSError as error:
            raise StoreUnavailable(f"{root} cannot be read: {error.strerror}") from None

    def _archives(self, prefix: str) -> Collection[str]:
        try:
            return [path.name for path in (self._root / prefix).iterdir()]
        except OSError:
            return ()
