"""How locators read: the same names in every driver, as paths or as keys.

staging/<upload>-<nonce>
blobs/<algorithm>/<first two of hex>/<hex>.<upload>-<nonce>
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

from ociappr.blobstore import Locator, UploadId
from ociappr.digest import Digest
from ociappr.errors import BlobUnknown

Nonce = Callable[[], str]
"""Draws lower-case hex that was never drawn before and never will be again."""

_UPLOAD = re.compile(r"[A-Za-z0-9._]+")
_LOCATOR = re.compile(
    r"(?:staging/|blobs/(?:"
    r"(?P<sha256>sha256)/(?P<a>[0-9a-f]{2})/(?P<hex256>(?P=a)[0-9a-f]{62})|"
    r"(?P<sha512>sha512)/(?P<b>[0-9a-f]{2})/(?P<hex512>(?P=b)[0-9a-f]{126})"
    r")\.)(?P<upload>[A-Za-z0-9._]+)-[0-9a-f]+"
)


def nonce() -> str:
    """Draw 96 random bits; with the longest upload id and sha512 a file name still fits 255."""
    return secrets.token_hex(12)


def staged(upload: UploadId, fresh: str) -> Locator:
    """Return the locator of bytes that nobody has verified."""
    return Locator(f"staging/{_tail(upload, fresh)}")


def promoted(digest: Digest, upload: UploadId, fresh: str) -> Locator:
    """Return a locator of bytes that have *digest*."""
    directory = f"blobs/{digest.algorithm}/{digest.hex[:2]}"
    return Locator(f"{directory}/{digest.hex}.{_tail(upload, fresh)}")


def read(locator: str) -> tuple[UploadId, Digest | None]:
    """Return whose bytes *locator* names, and their digest if they are promoted.

    Raises `BlobUnknown` for what is no locator; nothing that passes can point out of the store.
    """
    match = _LOCATOR.fullmatch(locator)
    if match is None:
        raise BlobUnknown("no object can have this locator", detail={"locator": locator})
    found = match.groupdict()
    upload, hex_part = UploadId(found["upload"]), found["hex256"] or found["hex512"]
    if hex_part is None:
        return upload, None
    return upload, Digest(found["sha256"] or found["sha512"], hex_part)


def _tail(upload: UploadId, fresh: str) -> str:
    if not _UPLOAD.fullmatch(upload):
        raise ValueError(f"{upload!r} is no upload id")
    return f"{upload}-{fresh}"
