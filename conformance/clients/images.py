"""Tiny container images, the same bytes on every run: a static program on top of nothing.

The program is an ELF file written here by hand, so no compiler is needed: it prints one line and
exits. `read` is the other half: it takes an image back from a registry and checks every byte.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import struct
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from conformance import wire
from conformance.conftest import Server

ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
HOST: Final = ARCHITECTURES[platform.machine()]
OTHER: Final = "arm64" if HOST == "amd64" else "amd64"


@dataclass(frozen=True, slots=True)
class Format:
    """The four media types of one way to write images."""

    manifest: str
    index: str
    config: str
    layer: str


OCI: Final = Format(
    manifest="application/vnd.oci.image.manifest.v1+json",
    index="application/vnd.oci.image.index.v1+json",
    config="application/vnd.oci.image.config.v1+json",
    layer="application/vnd.oci.image.layer.v1.tar+gzip",
)
PLAIN: Final = replace(OCI, layer="application/vnd.oci.image.layer.v1.tar")
DOCKER: Final = Format(
    manifest="application/vnd.docker.distribution.manifest.v2+json",
    index="application/vnd.docker.distribution.manifest.list.v2+json",
    config="application/vnd.docker.container.image.v1+json",
    layer="application/vnd.docker.image.rootfs.diff.tar.gzip",
)


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes with their media type."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        """The sha256 digest of the bytes."""
        return wire.digest_of(self.data)

    def descriptor(self) -> dict[str, Any]:
        """The descriptor a parent names these bytes by."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data)}


@dataclass(frozen=True, slots=True)
class Image:
    """An image for one architecture: its manifest and everything the manifest names."""

    manifest: Content
    config: Content
    layers: tuple[Content, ...]

    @property
    def architecture(self) -> str:
        """The architecture its configuration names."""
        return str(json.loads(self.config.data)["architecture"])

    @property
    def files(self) -> dict[str, bytes]:
        """The files that a container of it sees, its layers being gzip or plain."""
        return unpack(layer.data for layer in self.layers)

    @property
    def diff_ids(self) -> list[str]:
        """The digests of the unpacked layers, which every client keeps whatever the format."""
        return list(json.loads(self.config.data)["rootfs"]["diff_ids"])


@dataclass(frozen=True, slots=True)
class Index:
    """One image for each of several architectures."""

    manifest: Content
    images: tuple[Image, ...]

    def of(self, architecture: str) -> Image:
        """The image for `architecture`."""
        return next(image for image in self.images if image.architecture == architecture)


def program(message: str, *, architecture: str = HOST) -> bytes:
    """A static Linux program for `architecture` that prints `message` and a newline."""
    text = message.encode() + b"\n"
    base, start = 0x400000, 64 + 56
    if architecture == "amd64":
        machine, code = 62, _amd64(base + start, len(text))
    else:
        machine, code = 183, _arm64(len(text))
    size = start + len(code) + len(text)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return ident + header + segment + code + text


def _amd64(address: int, length: int) -> bytes:
    write = b"\xb8\x01\0\0\0\xbf\x01\0\0\0\xbe%b\xba%b\x0f\x05"
    leave = b"\xb8\x3c\0\0\0\x31\xff\x0f\x05"
    text = address + len(write) - 4 + 8 + len(leave)
    return write % (struct.pack("<I", text), struct.pack("<I", length)) + leave


def _arm64(length: int) -> bytes:
    text = 7 * 4
    return struct.pack(
        "<8I",
        0xD2800020,  # mov x0, 1
        0x10000001 | text // 4 << 5,  # adr x1, text, seven instructions on
        0xD2800002 | length << 5,  # mov x2, length
        0xD2800808,  # mov x8, write
        0xD4000001,  # svc 0
        0xD2800000,  # mov x0, 0
        0xD2800BA8,  # mov x8, exit
        0xD4000001,  # svc 0
    )


def noise(seed: str, size: int) -> bytes:
    """`size` bytes that do not compress, always the same for one `seed`."""
    return hashlib.shake_256(seed.encode()).digest(size)


def tar(files: Mapping[str, bytes]) -> bytes:
    """A tar archive of executable `files`, without times or owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def build(message: str, *, architecture: str = HOST, kind: Format = OCI) -> Image:
    """An image of two layers: noise, and a program that prints `message`."""
    files = context_files(message, architecture=architecture)
    archives = [tar({name: data}) for name, data in files.items()]
    layers = tuple(
        Content(kind.layer, gzip.compress(data, mtime=0) if kind.layer.endswith("gzip") else data)
        for data in archives
    )
    settings = {
        "created": "2020-01-01T00:00:00Z",
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": [wire.digest_of(data) for data in archives]},
        "history": [{"created": "2020-01-01T00:00:00Z", "created_by": "test"} for _ in archives],
    }
    config = Content(kind.config, json.dumps(settings).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind.manifest,
        "config": config.descriptor(),
        "layers": [layer.descriptor() for layer in layers],
    }
    return Image(Content(kind.manifest, json.dumps(manifest).encode()), config, layers)


def build_index(message: str, *, kind: Format = OCI) -> Index:
    """An index of one image for this machine and one for the other architecture."""
    both = tuple(
        build(f"{message} on {architecture}", architecture=architecture, kind=kind)
        for architecture in (HOST, OTHER)
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind.index,
        "manifests": [
            image.manifest.descriptor()
            | {"platform": {"architecture": image.architecture, "os": "linux"}}
            for image in both
        ],
    }
    return Index(Content(kind.index, json.dumps(manifest).encode()), both)


def push(server: Server, repo: str, tag: str, image: Image | Index) -> None:
    """Put `image` under `tag` with plain requests, children first."""
    for child in _images(image):
        for blob in (child.config, *child.layers):
            wire.push_blob(server, repo, blob.data)
        if child is not image:
            put = child.manifest
            wire.push_manifest(server, repo, put.digest, put.data, put.media_type)
    wire.push_manifest(server, repo, tag, image.manifest.data, image.manifest.media_type)


def read(server: Server, repo: str, reference: str) -> Image | Index:
    """Read an image or index back, asserting every media type, size and digest on the way."""
    data, media_type, digest = wire.get_manifest(server, repo, reference)
    manifest = Content(media_type, data)
    assert digest == manifest.digest
    parsed = json.loads(data)
    assert parsed.get("mediaType", media_type) == media_type
    if "manifests" in parsed:
        return Index(manifest, tuple(_child(server, repo, child) for child in parsed["manifests"]))
    config = _blob(server, repo, parsed["config"])
    image = Image(manifest, config, tuple(_blob(server, repo, layer) for layer in parsed["layers"]))
    assert len(image.diff_ids) == len(image.layers)
    for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
        if not layer.media_type.endswith("zstd"):
            assert wire.digest_of(_unpacked(layer.data)) == diff_id
    return image


def read_image(server: Server, repo: str, reference: str) -> Image:
    """Read an image back, asserting that it is one and not an index."""
    image = read(server, repo, reference)
    assert isinstance(image, Image)
    return image


def read_index(server: Server, repo: str, reference: str) -> Index:
    """Read an index back, asserting that it is one."""
    index = read(server, repo, reference)
    assert isinstance(index, Index)
    return index


def _child(server: Server, repo: str, descriptor: Mapping[str, Any]) -> Image:
    child = read_image(server, repo, descriptor["digest"])
    found = child.manifest.descriptor()
    assert found == {key: descriptor[key] for key in found}
    return child


def _blob(server: Server, repo: str, descriptor: Mapping[str, Any]) -> Content:
    blob = Content(descriptor["mediaType"], wire.get_blob(server, repo, descriptor["digest"]))
    found = blob.descriptor()
    assert found == {key: descriptor[key] for key in found}
    return blob


def unpack(layers: Iterable[bytes]) -> dict[str, bytes]:
    """The files of gzip or plain layers, later layers winning."""
    found: dict[str, bytes] = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
            found |= {
                member.name: stream.read()
                for member in archive
                if (stream := archive.extractfile(member)) is not None
            }
    return found


def _unpacked(data: bytes) -> bytes:
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def contents(image: Image | Index) -> dict[str, bytes]:
    """Every byte of `image` by digest."""
    parts = [image.manifest]
    for child in _images(image):
        parts += [child.manifest, child.config, *child.layers]
    return {part.digest: part.data for part in parts}


def _images(image: Image | Index) -> Sequence[Image]:
    return image.images if isinstance(image, Index) else (image,)


def write_layout(folder: Path, tagged: Mapping[str, Image | Index]) -> Path:
    """Write an OCI image layout holding `tagged` to `folder`, and return it."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for image in tagged.values():
        for digest, data in contents(image).items():
            (blobs / digest.removeprefix("sha256:")).write_bytes(data)
    entries = [
        image.manifest.descriptor() | {"annotations": {"org.opencontainers.image.ref.name": tag}}
        for tag, image in tagged.items()
    ]
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return folder


def read_layout(folder: Path) -> dict[str, bytes]:
    """The blobs of an OCI image layout by digest, each checked against its name."""
    blobs = {
        f"sha256:{blob.name}": blob.read_bytes() for blob in (folder / "blobs/sha256").iterdir()
    }
    for digest, data in blobs.items():
        assert wire.digest_of(data) == digest
    return blobs


def write_context(folder: Path, message: str) -> Path:
    """Write a build context whose Dockerfile makes two layers to `folder`, and return it."""
    folder.mkdir()
    for name, data in context_files(message).items():
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o755)
    (folder / "Dockerfile").write_text(
        'FROM scratch\nCOPY noise /noise\nCOPY hello /hello\nCMD ["/hello"]\n'
    )
    return folder


def context_files(message: str, *, architecture: str = HOST) -> dict[str, bytes]:
    """The files of an image that prints `message`."""
    return {
        "noise": noise(message, 100_000),
        "hello": program(message, architecture=architecture),
    }
