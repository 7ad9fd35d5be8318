"""Tiny Helm charts and their provenance, the same bytes on every run.

A signing key is derived from a word that anybody can read: it proves that `--verify` checks
something, and protects nothing.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import math
import random
import tarfile
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Final

EPOCH: Final = 1_700_000_000
"""Seconds since 1970 of everything here that has a date."""

CONFIG_TYPE: Final = "application/vnd.cncf.helm.config.v1+json"
CONTENT_TYPE: Final = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
PROVENANCE_TYPE: Final = "application/vnd.cncf.helm.chart.provenance.v1.prov"

_CONFIG_MAP: Final = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-{{ .Chart.Name }}
data:
  chart: {{ .Chart.Name }}-{{ .Chart.Version }}
  greeting: {{ .Values.greeting | quote }}
"""


@dataclass(frozen=True, slots=True)
class Dependency:
    """One entry of a chart's `dependencies`."""

    name: str
    version: str
    repository: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of one config map, which says the chart's version and a greeting."""

    name: str = "tiny"
    version: str = "1.0.0"
    greeting: str = "hello"
    dependencies: tuple[Dependency, ...] = ()

    @property
    def filename(self) -> str:
        """The file name Helm gives to the archive."""
        return f"{self.name}-{self.version}.tgz"

    def metadata(self) -> str:
        """Chart.yaml, written as JSON values (which are YAML) in block form."""
        lines = [
            "apiVersion: v2",
            f"name: {self.name}",
            f"version: {json.dumps(self.version)}",
            'appVersion: "7.5"',
            f"description: {self.name} says {self.greeting}",
            "type: application",
        ]
        if self.dependencies:
            lines.append("dependencies:")
        for wanted in self.dependencies:
            lines.append(f"- name: {wanted.name}")
            lines.append(f"  version: {json.dumps(wanted.version)}")
            lines.append(f"  repository: {json.dumps(wanted.repository)}")
        return "\n".join(lines) + "\n"

    def files(self) -> dict[str, bytes]:
        """The chart's files by path inside its directory."""
        return {
            "Chart.yaml": self.metadata().encode(),
            "values.yaml": f"greeting: {self.greeting}\n".encode(),
            "README.md": f"# {self.name}\n".encode(),
            "templates/configmap.yaml": _CONFIG_MAP.encode(),
        }

    def archive(self) -> bytes:
        """The chart as `helm package` would store it, dates fixed."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for path, content in self.files().items():
                entry = tarfile.TarInfo(f"{self.name}/{path}")
                entry.size, entry.mtime, entry.mode = len(content), EPOCH, 0o644
                tar.addfile(entry, io.BytesIO(content))
        return gzip.compress(packed.getvalue(), mtime=EPOCH)

    def write(self, directory: Path) -> Path:
        """Write the archive into `directory` and return its path."""
        path = directory / self.filename
        path.write_bytes(self.archive())
        return path

    def unpack(self, directory: Path) -> Path:
        """Write the chart's files below `directory` and return the chart's own directory."""
        root = directory / self.name
        for path, content in self.files().items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        return root

    def provenance(self, key: SigningKey) -> bytes:
        """The `.prov` file: metadata and the archive's digest, signed in clear text."""
        digest = hashlib.sha256(self.archive()).hexdigest()
        text = f"{self.metadata()}\n...\nfiles:\n  {self.filename}: sha256:{digest}\n"
        return key.clearsign(text)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An RSA key as OpenPGP (RFC 4880) writes it: enough of it for Helm."""

    owner: str
    modulus: int
    private_exponent: int

    def keyring(self) -> bytes:
        """The public key and its owner's name, certified by itself: what `--keyring` reads."""
        body, owner = self._public(), self.owner.encode()
        certified = b"\x99" + len(body).to_bytes(2, "big") + body
        certified += b"\xb4" + len(owner).to_bytes(4, "big") + owner
        proof = self._signature(0x13, certified, hashed=_subpacket(27, b"\x03"))
        return _packet(6, body) + _packet(13, owner) + _packet(2, proof)

    def clearsign(self, text: str) -> bytes:
        """`text` with a signature below it (RFC 4880, section 7)."""
        lines = [line.rstrip() for line in text.removesuffix("\n").split("\n")]
        signature = _packet(2, self._signature(0x01, "\r\n".join(lines).encode()))
        escaped = [f"- {line}" if line.startswith("-") else line for line in lines]
        checksum = base64.b64encode(_crc24(signature).to_bytes(3, "big")).decode()
        encoded = base64.b64encode(signature).decode()
        return "\n".join(
            [
                "-----BEGIN PGP SIGNED MESSAGE-----",
                "Hash: SHA256",
                "",
                *escaped,
                "-----BEGIN PGP SIGNATURE-----",
                "",
                *(encoded[start : start + 64] for start in range(0, len(encoded), 64)),
                f"={checksum}",
                "-----END PGP SIGNATURE-----",
                "",
            ]
        ).encode()

    def _public(self) -> bytes:
        return b"\x04" + EPOCH.to_bytes(4, "big") + b"\x01" + _mpi(self.modulus) + _mpi(_EXPONENT)

    def _key_id(self) -> bytes:
        body = self._public()
        named = b"\x99" + len(body).to_bytes(2, "big") + body
        return hashlib.sha1(named, usedforsecurity=False).digest()[-8:]

    def _signature(self, kind: int, signed: bytes, *, hashed: bytes = b"") -> bytes:
        dated = _subpacket(2, EPOCH.to_bytes(4, "big")) + hashed
        head = bytes([4, kind, 1, 8]) + len(dated).to_bytes(2, "big") + dated
        trailer = b"\x04\xff" + len(head).to_bytes(4, "big")
        digest = hashlib.sha256(signed + head + trailer).digest()
        issuer = _subpacket(16, self._key_id())
        unhashed = len(issuer).to_bytes(2, "big") + issuer
        return head + unhashed + digest[:2] + _mpi(self._sign(digest))

    def _sign(self, digest: bytes) -> int:
        size = (self.modulus.bit_length() + 7) // 8
        content = _SHA256_PREFIX + digest
        padding = b"\xff" * (size - len(content) - 3)
        padded = b"\x00\x01" + padding + b"\x00" + content
        return pow(int.from_bytes(padded, "big"), self.private_exponent, self.modulus)


_EXPONENT: Final = 65537
_SHA256_PREFIX: Final = bytes.fromhex("3031300d060960864801650304020105000420")
"""The DER head of a SHA-256 value in a PKCS #1 v1.5 signature (RFC 8017, section 9.2)."""


@cache
def signing_key(word: str) -> SigningKey:
    """The key that belongs to `word`, always the same."""
    numbers = random.Random(word)
    p, q = _prime(numbers), _prime(numbers)
    secret = pow(_EXPONENT, -1, math.lcm(p - 1, q - 1))
    return SigningKey(f"{word} <{word}@example.invalid>", p * q, secret)


def _prime(numbers: random.Random) -> int:
    """The first prime after a random number of 1024 bits whose two highest bits are set."""
    start = numbers.getrandbits(1024) | 3 << 1022 | 1
    return next(n for n in count(start, 2) if _is_prime(n) and n % _EXPONENT != 1)


def _is_prime(number: int) -> bool:
    """Fermat's test with a few bases: enough for numbers nobody chose to deceive it."""
    if math.gcd(number, _SMALL_PRIMES) != 1:
        return False
    return all(pow(base, number - 1, number) == 1 for base in (2, 3, 5, 7))


_SMALL_PRIMES: Final = math.prod(
    n for n in range(3, 4000, 2) if all(n % d for d in range(3, math.isqrt(n) + 1, 2))
)


def _mpi(number: int) -> bytes:
    bits = number.bit_length()
    return bits.to_bytes(2, "big") + number.to_bytes((bits + 7) // 8, "big")


def _packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4, "big") + body


def _subpacket(kind: int, body: bytes) -> bytes:
    return bytes([len(body) + 1, kind]) + body


def _crc24(data: bytes) -> int:
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc = crc << 1 ^ (0x1864CFB if crc & 0x800000 else 0)
    return crc & 0xFFFFFF
