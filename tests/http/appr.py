"""What tests push through the appr door, and how."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

from tests.http.client import Answer, Client

PACKAGES = "/api/v1/packages"


def tar(files: Mapping[str, bytes]) -> bytes:
    """Return a tar of *files*; equal arguments give equal bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def tgz(files: Mapping[str, bytes], *, level: int = 6) -> bytes:
    """Return a tar.gz of *files*; the level changes the bytes, not the content."""
    return gzip.compress(tar(files), level, mtime=0)


def chart(name: str = "web", version: str = "1.0.0", **files: bytes) -> bytes:
    """Return a Helm chart as its file."""
    text = f"apiVersion: v2\nname: {name}\nversion: {version}\n".encode()
    extra = {f"{name}/{path}": data for path, data in files.items()}
    return tgz({f"{name}/Chart.yaml": text, **extra})


async def push(
    doors: Client,
    package: str,
    release: str,
    data: bytes,
    media_type: str = "helm",
    **fields: object,
) -> Answer:
    """Push an archive as JSON."""
    document = {
        "release": release,
        "media_type": media_type,
        "blob": base64.b64encode(data).decode(),
        **fields,
    }
    return await doors("POST", f"{PACKAGES}/{package}", json.dumps(document).encode())


async def get(doors: Client, path: str) -> Any:  # noqa: ANN401 - tests know what they read
    """Return the document at *path* below the packages."""
    answer = await doors("GET", f"{PACKAGES}/{path}")
    assert answer.status == 200, answer.body
    return answer.json()


def error(answer: Answer) -> tuple[int, str]:
    """Return status and code of an error, having checked its form."""
    document: Any = answer.json()
    assert answer.headers["Content-Type"] == "application/json"
    assert document["message"] == document["error"]["message"]
    assert document["details"] == document["error"]["details"]
    assert "code" not in document
    return answer.status, document["error"]["code"]
