"""A certificate for `localhost`, and the authority that vouches for it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """Where they lie; nobody but their owner may read the key."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def made(cls, directory: Path) -> Certificates:
        """Make them in a directory."""
        ours = cls(directory / "ca.pem", directory / "server.pem", directory / "server.key")
        authority_key = directory / "ca.key"
        _sign(ours.authority, authority_key, "/CN=an authority of tests")
        vouched = ("-CA", str(ours.authority), "-CAkey", str(authority_key))
        names = ("-addext", "subjectAltName=DNS:localhost")
        leaf = ("-addext", "basicConstraints=critical,CA:FALSE")
        _sign(ours.certificate, ours.key, "/CN=localhost", *vouched, *names, *leaf)
        return ours


def _sign(certificate: Path, key: Path, subject: str, *options: str) -> None:
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    places = ("-subj", subject, "-out", str(certificate), "-keyout", str(key))
    command = ("openssl", "req", "-x509", *new, *places, *options)
    subprocess.run(command, check=True, capture_output=True)
