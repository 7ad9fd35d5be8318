"""A client of an S3 server: how it is reached and set up, and what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError

from ociappr.errors import BlobUnknown, StoreUnavailable

if TYPE_CHECKING:  # its stubs are there in development only
    from types_aiobotocore_s3 import S3Client

READERS = 256
"""How many may read at once: each holds its connection for as long as its client is slow."""

BROKEN = (BotoCoreError, aiohttp.ClientError, TimeoutError, OSError)
"""What is raised where a server does not answer, not to the end, or cannot be asked at all."""

_OTHERS = 64
_REGION = "us-east-1"  # what most servers that are not AWS call themselves

_ADVICE: Mapping[str, str] = {
    "NoSuchBucket": "create the bucket, or correct storage.url",
    **dict.fromkeys(
        ("InvalidAccessKeyId", "XAdminUserNotFound", "SignatureDoesNotMatch"),
        "correct storage.s3.access_key and storage.s3.secret_key, or AWS_ACCESS_KEY_ID and"
        " AWS_SECRET_ACCESS_KEY",
    ),
    **dict.fromkeys(
        ("AccessDenied", "403"),
        "allow the key what docs/stores/s3.md lists",
    ),
    **dict.fromkeys(
        ("ExpiredToken", "TokenRefreshRequired", "InvalidToken"),
        "renew the temporary credentials; those of an instance renew themselves",
    ),
    **dict.fromkeys(
        ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"),
        "set storage.s3.region to the bucket's",
    ),
    "RequestTimeTooSkewed": "set this machine's clock",
    "NoCredentialsError": "set storage.s3.access_key and storage.s3.secret_key, or give botocore"
    " credentials its own way",
    "EndpointConnectionError": "look whether the server runs, and whether storage.s3.endpoint is"
    " its address",
    "SSLError": "name the authority of the server's certificate with storage.s3.ca_file",
}

Addressing = Literal["path", "virtual", "auto"]
Encryption = Literal["none", "AES256", "aws:kms"]


@dataclass(frozen=True, slots=True)
class S3Access:
    """How the server is reached; botocore's own environment speaks where this is empty."""

    endpoint: str = ""
    public_endpoint: str = ""
    region: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    addressing: Addressing = "auto"
    ca_file: str = ""
    encryption: Encryption = "none"
    kms_key: str = ""
    patience: float = 60.0
    """Seconds that a request may take, and a large one some more."""


def connect(
    session: AioSession, access: S3Access, endpoint: str
) -> AbstractAsyncContextManager[S3Client]:
    """Return a client; making one takes a tenth of a second, so it stays for good."""
    config = AioConfig(
        signature_version="s3v4",  # else URLs are signed the old way in us-east-1
        s3={
            "addressing_style": access.addressing,
            "payload_signing_enabled": False,  # it would hash each body again, on the loop
        },
        # as above: what we send carries a checksum of ours, and what we read has a digest
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=READERS + _OTHERS,
        connect_timeout=min(5.0, access.patience),
        read_timeout=access.patience,
        retries={"mode": "standard", "total_max_attempts": 3},
    )
    client: AbstractAsyncContextManager[S3Client] = session.create_client(
        "s3",
        region_name=access.region or session.get_config_variable("region") or _REGION,
        endpoint_url=endpoint or None,
        aws_access_key_id=access.access_key or None,
        aws_secret_access_key=access.secret_key or None,
        verify=access.ca_file or None,
        config=config,
    )
    return client


@contextmanager
def translated() -> Iterator[None]:
    """Raise the port's errors for botocore's and aiohttp's."""
    try:
        yield
    except ClientError as error:
        what = code(error)
        if what == "NoSuchKey":
            raise BlobUnknown("the object is gone") from error
        message = error.response.get("Error", {}).get("Message", "")
        text = f"the S3 server refused {error.operation_name}: {what} {message}".rstrip()
        raise StoreUnavailable(text, hint=_ADVICE.get(what, "")) from error
    except BROKEN as error:
        raise unavailable(error) from error


def unavailable(error: Exception) -> StoreUnavailable:
    """Return the port's error for one of `BROKEN`."""
    said = str(error) or "no answer in time"
    hint = _ADVICE.get(type(error).__name__, "")
    return StoreUnavailable(f"the S3 server cannot be used: {said}", hint=hint)


def code(error: ClientError) -> str:
    """Return what the server calls an error; its status says less, and differs."""
    return str(error.response.get("Error", {}).get("Code", ""))
