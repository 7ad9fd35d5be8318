"""The key space: every key that the registry writes, on one page.

Parts are joined by NUL, which no name, tag or digest can contain, so byte order is the order of the
parts. Who derives what from which record is in `ociappr.registry.derived`.

    r repository                        repository record
    t repository, name                  tag record: an ordinary tag, a release or a channel
    m repository, digest                manifest record: membership of a manifest
    f repository, subject, digest       referrer                                      derived from m
    p child, repository, parent         pin: why a blob lives; empty prefix = garbage derived from m
    a repository, content, manifest     appr's digest → the layer's                   derived from m
    l digest, repository                link: a blob is visible here; value = its birth
    b digest                            blob record: where the bytes are, or that they are inline
    o locator                           whose bytes these are                         derived from b
    i digest, birth                     the bytes themselves of a small blob
    u upload                            upload session
    x locator | digest, birth           bin: bytes to unlink, void links to delete
    h repository, digest, tag           hint that the tag may point there; never a truth
    g repository, tag | digest          when it was pulled last; goes with what it is about
    e time, nonce                       journal of changes
    k kind, name                        keys, leases: what replicas share besides content
    k schema, registry                  schema and identity: `ociappr.registry.schema`
    k claim, registry                   who fills these metadata and has not finished
"""

from __future__ import annotations

from ociappr.blobstore import Locator, UploadId
from ociappr.digest import ContentDigest, Digest
from ociappr.names import RepositoryName, Tag

_SEPARATOR = "\0"


def _key(*parts: object) -> bytes:
    return _SEPARATOR.join(map(str, parts)).encode()


def parts(key: bytes) -> list[str]:
    """Return the parts of *key*, its kind first."""
    return key.decode().split(_SEPARATOR)


def kind(letter: str) -> bytes:
    """Return the prefix of all keys of a kind."""
    return _key(letter, "")


def within(letter: str, namespace: str | None) -> bytes:
    """Return the prefix of all keys of a kind whose repositories are in *namespace*, if given."""
    return kind(letter) if namespace is None else _key(letter, f"{namespace}/")


def repository(name: RepositoryName | str) -> bytes:
    """Return the key of a repository."""
    return _key("r", name)


def tag(name: RepositoryName, tag_: object) -> bytes:
    """Return the key of a tag, release or channel."""
    return _key("t", name, tag_)


def tags(name: RepositoryName) -> bytes:
    """Return the prefix of the tags of a repository."""
    return _key("t", name, "")


def manifest(name: RepositoryName, digest: Digest) -> bytes:
    """Return the key of a manifest in a repository."""
    return _key("m", name, digest)


def manifests(name: RepositoryName) -> bytes:
    """Return the prefix of the manifests of a repository."""
    return _key("m", name, "")


def referrer(name: RepositoryName, subject: Digest, digest: Digest | str) -> bytes:
    """Return the key of a referrer."""
    return _key("f", name, subject, digest)


def referrers(name: RepositoryName, subject: Digest) -> bytes:
    """Return the prefix of the referrers of *subject*."""
    return _key("f", name, subject, "")


def pin(child: Digest, name: RepositoryName, parent: Digest) -> bytes:
    """Return the key of a pin."""
    return _key("p", child, name, parent)


def pins(child: Digest) -> bytes:
    """Return the prefix of the pins of a blob; no key there means garbage."""
    return _key("p", child, "")


def pins_within(child: Digest, name: RepositoryName) -> bytes:
    """Return the prefix of the pins of a blob that manifests of one repository set."""
    return _key("p", child, name, "")


def alias(name: RepositoryName, content: ContentDigest, manifest_: Digest) -> bytes:
    """Return the key that leads from appr's digest to a layer."""
    return _key("a", name, content, manifest_)


def aliases(name: RepositoryName, content: ContentDigest) -> bytes:
    """Return the prefix of the layers that have one content digest."""
    return _key("a", name, content, "")


def link(digest: Digest, name: RepositoryName) -> bytes:
    """Return the key that makes a blob visible in a repository."""
    return _key("l", digest, name)


def links(digest: Digest) -> bytes:
    """Return the prefix of the links of a blob."""
    return _key("l", digest, "")


def blob(digest: Digest) -> bytes:
    """Return the key of a blob."""
    return _key("b", digest)


def owner(locator: Locator) -> bytes:
    """Return the key that tells which blob names a locator."""
    return _key("o", locator)


def inline(digest: Digest, birth: str) -> bytes:
    """Return the key of the bytes of a small blob."""
    return _key("i", digest, birth)


def upload(upload_: UploadId) -> bytes:
    """Return the key of an upload session."""
    return _key("u", upload_)


def binned(locator: Locator) -> bytes:
    """Return the bin's key of a locator."""
    return _key("x", locator)


def binned_inline(digest: Digest, birth: str) -> bytes:
    """Return the bin's key of a blob that was inline."""
    return _key("x", digest, birth)


def hint(name: RepositoryName, digest: Digest, tag_: object) -> bytes:
    """Return the key of the hint that a tag points to a manifest."""
    return _key("h", name, digest, tag_)


def hints(name: RepositoryName, digest: Digest) -> bytes:
    """Return the prefix of the hints to a manifest."""
    return _key("h", name, digest, "")


def pulled(name: RepositoryName, target: Tag | Digest) -> bytes:
    """Return the key of the last pull of a tag or manifest."""
    return _key("g", name, target)


def pulls(name: RepositoryName) -> bytes:
    """Return the prefix of the last pulls in a repository."""
    return _key("g", name, "")


def event(time: str, nonce: str) -> bytes:
    """Return the key of a journal entry."""
    return _key("e", time, nonce)


def shared(kind_: str, name: str) -> bytes:
    """Return the key of something that replicas share."""
    return _key("k", kind_, name)
