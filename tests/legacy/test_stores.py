"""Old stores as they are found: damaged, stale, and with names that nobody would take today."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ociappr.config import ConfigError
from ociappr.errors import StoreUnavailable
from ociappr.legacy.importing import Result
from ociappr.names import PackageName
from ociappr.registry import Registry
from tests.http.appr import chart, tar, tgz
from tests.legacy.conftest import Import, told
from tests.legacy.old import PREFIX, Old, content_digest, text
from tests.legacy.test_importing import pull

WEB = PackageName("shop", "web")
REFUSED = Result.REFUSED


def blob(root: Path, package: str, archive: bytes) -> Path:
    return root / PREFIX / package / "digests" / "sha256" / content_digest(archive)


def damage_document(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / PREFIX / "shop/web/releases.json"
        path.write_bytes(change(path.read_bytes()))

    return damage


def no_document(root: Path) -> None:
    (root / PREFIX / "shop/web/releases.json").unlink()


def a_directory(root: Path) -> None:
    no_document(root)
    (root / PREFIX / "shop/web/releases.json").mkdir()


NO_JSON = "releases.json is no JSON, or cut off: "
NO_FORM = "releases.json does not have the form of appr: "


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (no_document, "packages.json names it, but it has no releases.json"),
        (a_directory, "/appr/packages/shop/web/releases.json is no file"),
        (damage_document(lambda data: data[: len(data) // 2]), NO_JSON),
        (damage_document(lambda _: b""), NO_JSON),
        (damage_document(lambda _: b"\xff\xfe"), NO_JSON),
        (damage_document(lambda _: b"[" * 100_000), NO_JSON),
        (damage_document(lambda _: b"[]"), NO_FORM),
        (damage_document(lambda _: b'{"releases": []}'), NO_FORM),
    ],
)
async def test_a_package_whose_document_is_damaged(
    old: Old, take: Import, tmp_path: Path, damage: Callable[[Path], None], why: str
) -> None:
    damage(old.write(tmp_path))
    found = told(await take(tmp_path))
    result, reason = found["shop/web"]
    assert result is REFUSED
    assert why in reason
    assert found["shop/api 2.0.0-rc1 docker-compose"] == (Result.IMPORTED, "")


@pytest.mark.parametrize(
    ("piece", "item", "why"),
    [
        ({"manifests": []}, "shop/web 1.0.0", "the release '1.0.0' does not have the form"),
        ({"manifests": {"helm": {}}}, "shop/web 1.0.0 helm", "the manifest does not have the form"),
        (
            {"manifests": {"helm": {"created_at": "yesterday", "content": {"digest": "d"}}}},
            "shop/web 1.0.0 helm",
            "its time of creation, 'yesterday', cannot be read",
        ),
    ],
)
async def test_a_piece_that_is_damaged(
    old: Old, take: Import, tmp_path: Path, piece: object, item: str, why: str
) -> None:
    old.document("shop/web")["releases"]["1.0.0"] = piece
    found = told(await take(old.write(tmp_path)))
    result, reason = found[item]
    assert result is REFUSED
    assert reason.startswith(why)
    assert found["shop/web 1.1.0+b1 helm"] == (Result.IMPORTED, "")


async def test_a_channel_that_is_damaged(old: Old, take: Import, tmp_path: Path) -> None:
    old.document("shop/web")["channels"]["edge"] = None
    result, reason = told(await take(old.write(tmp_path)))["shop/web channel edge"]
    assert result is REFUSED
    assert reason.startswith("the channel does not have the form of appr: ")


@pytest.mark.parametrize("value", [b"{", b'{"packages": {"shop": []}}'])
async def test_a_damaged_index_hides_nothing(
    old: Old, take: Import, registry: Registry, tmp_path: Path, value: bytes
) -> None:
    (old.write(tmp_path) / PREFIX / "packages.json").write_bytes(value)
    found = told(await take(tmp_path))
    assert found.pop("packages.json")[0] is REFUSED
    assert {result for result, _ in found.values()} == {Result.IMPORTED}
    listed = await registry.packages.list(readable=lambda _: True)
    assert {one.created for one in listed} == {"2017-03-01T10:11:12.123456Z"}


async def test_a_stale_index_is_no_truth(old: Old, take: Import, tmp_path: Path) -> None:
    """It may name what is not there, and not name what is; leftovers of failures are nothing."""
    del old.packages["shop"]["api"]
    old.packages["shop"]["never"] = None
    root = old.write(tmp_path) / PREFIX
    (root / "shop" / "empty").mkdir()
    (root / "shop" / "web" / "releases.json.lock").write_text("1488363072.1")
    (root / "packages.json.lock").write_text("1488363072.1")
    stored = blob(tmp_path, "shop/web", chart("web", "1.0.0"))
    stored.with_name(f"{stored.name}.lock").write_text("1488363072.1")
    found = told(await take(tmp_path))
    why = "packages.json names it, but it has no releases.json"
    assert found.pop("shop/never") == (REFUSED, why)
    assert {result for result, _ in found.values()} == {Result.IMPORTED}
    assert "shop/api 2.0.0-rc1 docker-compose" in found


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "its archive, digests/sha256/"),
        (b"QUJD", "the archive is no gzip stream, or damaged"),
        (text(chart("web", "1.0.0"))[:102], "its archive is no base64, or cut off"),
        (text(chart("web", "1.0.0"))[:101], "the archive holds no tar"),
        (text(chart("web", "1.0.0") + b"rest"), "the archive is no gzip stream, or damaged"),
        (text(gzip.compress(b"no tar" * 200)), "the archive holds no tar"),
        (b"", "the archive holds no tar"),
    ],
)
async def test_an_archive_that_is_damaged(
    old: Old, take: Import, registry: Registry, tmp_path: Path, value: bytes | None, why: str
) -> None:
    path = blob(old.write(tmp_path), "shop/web", chart("web", "1.0.0"))
    path.unlink()
    if value is not None:
        path.write_bytes(value)
    result, reason = told(await take(tmp_path))["shop/web 1.0.0 helm"]
    assert result is REFUSED
    assert reason.startswith(why)
    (release,) = await registry.packages.release(WEB, "1.0.0")
    assert release.record.format == "kpm"


async def test_a_digest_is_no_path(old: Old, take: Import, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(text(chart("web", "stolen")))
    manifests = old.document("shop/web")["releases"]["1.0.0"]["manifests"]
    manifests["helm"]["content"]["digest"] = "../" * 6 + "secret"
    result, reason = told(await take(old.write(tmp_path)))["shop/web 1.0.0 helm"]
    assert result is REFUSED
    assert reason.endswith("secret, is missing")


async def test_archives_beyond_the_limits(old: Old, take: Import, tmp_path: Path) -> None:
    noise = tgz({"noise": os.urandom(3_000)})
    old.push("shop/web", "3.0.0", noise, "kpm")
    old.push("shop/web", "4.0.0", tgz({"zeros": bytes(2_000_000)}), "kpm")
    found = told(await take(old.write(tmp_path), limit=3_000))
    assert found["shop/web 3.0.0 kpm"][0] is REFUSED
    assert "bytes, more than 3000" in found["shop/web 3.0.0 kpm"][1]
    assert found["shop/web 4.0.0 kpm"] == (
        REFUSED,
        "the archive unpacks to more than 1000000 bytes",
    )
    assert found["shop/web 1.0.0 kpm"] == (Result.IMPORTED, "")


async def test_an_archive_stored_under_another_digest_is_told(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    """The old server served it so; what is true is computed again."""
    other = chart("web", "other")
    path = blob(old.write(tmp_path), "shop/web", chart("web", "1.0.0"))
    path.write_bytes(text(other))
    result, reason = told(await take(tmp_path))["shop/web 1.0.0 helm"]
    assert (result, reason) == (
        Result.IMPORTED,
        f"the old server called its content {path.name}",
    )
    shown = await registry.packages.show(WEB, "1.0.0", "helm")
    assert str(shown.record.content_digest) == content_digest(other)
    assert await pull(registry, WEB, "1.0.0", "helm") == other


async def test_a_restored_store_keeps_archives_in_its_documents(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    """The old server stored a restored archive under its true digest, and showed the dump's."""
    archive = tgz({"a": b"b"})
    old.push("shop/web", "3.0.0", archive, "kpm")
    manifest = old.document("shop/web")["releases"]["3.0.0"]["manifests"]["kpm"]
    manifest |= {"blob": text(archive).decode(), "channels": ["stable"]}
    manifest["content"]["digest"] = "0" * 64
    found = told(await take(old.write(tmp_path)))
    note = f"the old server called its content {'0' * 64}"
    assert found["shop/web 3.0.0 kpm"] == (Result.IMPORTED, note)
    assert await pull(registry, WEB, "3.0.0", "kpm") == archive
    assert Result.LEFT not in {result for result, _ in found.values()}


async def test_two_archives_of_one_tar_share_one_of_them(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    files = {"a": b"b" * 1000}
    first, second = tgz(files, level=1), tgz(files, level=9)
    assert first != second
    old.push("shop/web", "3.0.0", first, "kpm")
    old.push("shop/web", "3.0.1", second, "kpm")
    found = told(await take(old.write(tmp_path)))
    assert {result for result, _ in found.values()} == {Result.IMPORTED}
    for release in ("3.0.0", "3.0.1"):
        assert await pull(registry, WEB, release, "kpm") == second
        shown = await registry.packages.show(WEB, release, "kpm")
        assert shown.record.size == len(second)


async def test_archives_of_no_release_are_told(old: Old, take: Import, tmp_path: Path) -> None:
    digest = content_digest(chart("web", "1.1.0"))
    del old.document("shop/web")["releases"]["1.1.0+b1"]
    outcomes = await take(old.write(tmp_path))
    assert told(outcomes)[f"shop/web archive {digest}"] == (Result.LEFT, "no release names it")


@pytest.mark.parametrize(
    ("release", "format_", "item", "why"),
    [
        ("1.0.0\n", "kpm", r"shop/web '1.0.0\n' kpm", "Invalid version string"),
        ("latest", "kpm", "shop/web latest kpm", "Invalid version string"),
        ("3.0.0", "a.b", "shop/web 3.0.0 a.b", "'a.b' is not a media type"),
        ("3.0.0", "-", "shop/web 3.0.0 -", "'-' is not a media type"),
    ],
)
async def test_releases_and_media_types_that_cannot_be(
    old: Old, take: Import, tmp_path: Path, release: str, format_: str, item: str, why: str
) -> None:
    old.push("shop/web", release, tgz({"a": b"b"}), format_)
    found = told(await take(old.write(tmp_path)))
    result, reason = found.pop(item)
    assert result is REFUSED
    assert reason.startswith(why)
    assert {other for other, _ in found.values()} == {Result.IMPORTED}


@pytest.mark.parametrize("name", ["Foo/Bar", "a b/c", "../../../etc", "ü/ö", "\x1b[2J/x", "a", "/"])
async def test_packages_that_cannot_be(old: Old, take: Import, tmp_path: Path, name: str) -> None:
    namespace, _, rest = name.partition("/")
    old.packages[namespace][rest] = {"created_at": "2017-03-01T10:11:12"}
    found = told(await take(old.write(tmp_path)))
    (refused,) = [(item, reason) for item, (result, reason) in found.items() if result is REFUSED]
    assert refused[0].isprintable()
    assert "is not a" in refused[1]


async def test_names_that_are_no_text_are_told(old: Old, take: Import, tmp_path: Path) -> None:
    path = old.write(tmp_path) / PREFIX / "\udcff/x"
    path.mkdir(parents=True)
    (path / "releases.json").write_bytes(b"{}")
    (item,) = [item for item in told(await take(tmp_path)) if "udcff" in item]
    assert item == r"'\udcff/x'"


async def test_metadata_that_is_no_json_of_today(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    old.push("shop/web", "3.0.0", tgz({"a": b"b"}), "kpm", metadata=float("nan"))
    old.push("shop/web", "3.0.1", tgz({"a": b"b"}), "kpm", metadata={"n": 10**40, "s": "\ud800"})
    found = told(await take(old.write(tmp_path)))
    assert found["shop/web 3.0.0 kpm"][0] is Result.IMPORTED
    shown = await registry.packages.show(WEB, "3.0.1", "kpm")
    assert json.loads(shown.metadata) == {"n": 10**40, "s": "?"}


# -- where they lie --------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "appr/packages"])
async def test_a_store_is_found_by_either_directory(
    old: Old, take: Import, tmp_path: Path, below: str
) -> None:
    old.write(tmp_path)
    assert len(await take(tmp_path / below)) == 5


async def test_a_store_below_another_prefix(old: Old, take: Import, tmp_path: Path) -> None:
    old.write(tmp_path)
    (tmp_path / "appr").rename(tmp_path / "cnr")
    assert len(await take(tmp_path)) == 5
    (tmp_path / "cnr").rename(tmp_path / "own")
    with pytest.raises(StoreUnavailable, match=r"there is no appr store at .*: no packages.json"):
        await take(tmp_path)
    assert len(await take(tmp_path, prefix="own/packages/")) == 5


async def test_a_prefix_that_is_not_there(take: Import, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be read: No such file"):
        await take(tmp_path, prefix="own/")


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("ftp://host/x", "begins with none of file://, redis://, rediss://, etcd://, etcds://"),
        ("ftp://user:secret@host/x", r"'ftp://user:\*\*\*@host/x' is no path"),
    ],
)
async def test_places_that_nothing_is_read_from(take: Import, where: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        await take(where)


async def test_a_tar_is_no_gzip(old: Old, take: Import, tmp_path: Path) -> None:
    path = blob(old.write(tmp_path), "shop/web", chart("web", "1.0.0"))
    path.write_bytes(text(tar({"a": b"b"})))
    assert told(await take(tmp_path))["shop/web 1.0.0 helm"][0] is REFUSED


async def test_a_path_of_a_url_is_unescaped(old: Old, take: Import, tmp_path: Path) -> None:
    await asyncio.to_thread(old.write, tmp_path / "old store")
    assert len(await take(f"file://{tmp_path}/old%20store")) == 5
