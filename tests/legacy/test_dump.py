"""Dumps: the same as their store, whole or cut off anywhere."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from ociappr.blobstore.memory import MemoryBlobs
from ociappr.errors import StoreUnavailable
from ociappr.legacy.importing import Result
from ociappr.metadata.memory import MemoryMetadata
from ociappr.names import PackageName
from ociappr.registry import Registry
from tests.http.appr import tgz
from tests.legacy.conftest import Import, told
from tests.legacy.old import Old, text
from tests.legacy.test_importing import pull, run, shown

WEB = PackageName("shop", "web")


async def test_a_dump_is_its_store(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    await take(old.dump(tmp_path / "dump.json"))
    other = await Registry.open(MemoryMetadata(), MemoryBlobs())
    await run(other, old.write(tmp_path / "store"))
    assert await shown(registry) == await shown(other)
    assert {one.result for one in await take(tmp_path / "store")} == {Result.PRESENT}


async def test_channels_may_come_first(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    path = old.dump(tmp_path / "dump.json")
    document = json.loads(path.read_text())
    path.write_text(json.dumps({"channels": document["channels"], **document}, indent=1))
    assert {one.result for one in await take(path)} == {Result.IMPORTED}
    (stable,) = await registry.packages.channels(WEB)
    assert (stable.current, len(stable.releases)) == ("1.0.0", 2)


async def test_the_dump_of_another_server(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    """Older dumps know no metadata; a fork wrote its own name into media types."""
    document = json.loads(old.dump(tmp_path / "dump.json").read_text())
    for item in document["packages"]:
        del item["metadata"]
        item["mediaType"] = item["mediaType"].replace("appr", "cnr").replace(".v0.", ".v1.")
    (tmp_path / "dump.json").write_text(json.dumps(document))
    assert {one.result for one in await take(tmp_path / "dump.json")} == {Result.IMPORTED}
    assert (await registry.packages.show(WEB, "1.0.0", "helm")).metadata == "null"


async def test_two_archives_of_one_tar_are_two(
    old: Old, take: Import, registry: Registry, tmp_path: Path
) -> None:
    files = {"a": b"b" * 1000}
    for release in ("3.0.0", "3.0.1"):
        old.push("shop/web", release, tgz(files, level=1), "kpm")
    path = old.dump(tmp_path / "dump.json")
    document = json.loads(path.read_text())
    (last,) = (item for item in document["packages"] if item["release"] == "3.0.1")
    last["blob"] = text(tgz(files, level=9)).decode()
    path.write_text(json.dumps(document))
    await take(path)
    sizes = {len(await pull(registry, WEB, release, "kpm")) for release in ("3.0.0", "3.0.1")}
    assert sizes == {len(tgz(files, level=1)), len(tgz(files, level=9))}


@pytest.mark.parametrize("step", range(1, 40))
async def test_a_dump_that_breaks_off_gives_what_is_complete(
    old: Old, take: Import, registry: Registry, tmp_path: Path, step: int
) -> None:
    old.push("shop/web", "9.0.0", tgz({"a": b"b"}), "kpm", metadata={"a": 'x}]}" \\ {['})
    data = old.dump(tmp_path / "dump.json").read_bytes()
    (tmp_path / "dump.json").write_bytes(data[: len(data) * step // 40])
    found = told(await take(tmp_path / "dump.json"))
    why = "it is no dump, or breaks off: what is complete was taken"
    assert found.pop("dump.json") == (Result.REFUSED, why)
    assert {result for result, _ in found.values()} <= {Result.IMPORTED}
    listed = await registry.packages.list(readable=lambda _: True)
    complete = data[: len(data) * step // 40].count(b'"blob": "')
    formats = sum(len(one.formats) for entry in listed for one in entry.releases)
    assert formats in (complete, complete - 1)


async def test_brackets_in_a_text_that_breaks_off_close_nothing(
    take: Import, tmp_path: Path
) -> None:
    (tmp_path / "dump.json").write_text('{"channels": [], "packages": [{"metadata": "a}]}')
    found = told(await take(tmp_path / "dump.json"))
    assert list(found) == ["dump.json"]


@pytest.mark.parametrize("data", [b"[]", b"null", b"{}", b'{"a": [{}]}', b'"', b"]]]"])
async def test_what_is_no_dump(take: Import, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "dump.json"
    path.write_bytes(data)
    (outcome,) = await take(path)
    assert outcome.result is Result.REFUSED


async def test_an_empty_file_is_no_dump(take: Import, tmp_path: Path) -> None:
    (tmp_path / "dump.json").touch()
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        await take(tmp_path / "dump.json")


async def test_a_dump_that_is_not_there(take: Import, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"cannot be read: .*No such file"):
        await take(tmp_path / "none.json")


async def test_items_that_are_damaged(old: Old, take: Import, tmp_path: Path) -> None:
    document = json.loads(old.dump(tmp_path / "dump.json").read_text())
    items = document["packages"]
    bad: list[object] = [
        {},
        {**items[0], "blob": None, "release": "5.0.0"},
        {**items[0], "created_at": "x"},
        {**items[0], "package": "Foo/Bar"},
        {**items[0], "blob": "A" * 1_000_000},
    ]
    document["packages"] = [*bad, *items]
    document["channels"].append({"name": "x"})
    (tmp_path / "dump.json").write_text(json.dumps(document))
    found = told(await take(tmp_path / "dump.json"))
    refused = {item: reason for item, (result, reason) in found.items() if result is Result.REFUSED}
    assert {item: reason.partition(":")[0] for item, reason in refused.items()} == {
        "dump.json, item 1": "the item does not have the form of appr",
        "shop/web 5.0.0 helm": "the item does not have the form of appr",
        "dump.json, item 3": "its time of creation, 'x', cannot be read",
        "Foo/Bar": "'Foo/Bar' is not a repository name; lower-case letters and digits,"
        " parted by . _ __ - or /, 255 at most",
        "dump.json, item 5": "it has 1000417 bytes, more than 1000000",
        "dump.json, item 11": "the channel does not have the form of appr",
    }


async def test_memory_is_bounded(old: Old, take: Import, tmp_path: Path) -> None:
    """However large a dump is, one item of it is held at a time."""
    for number in range(40):
        old.push("shop/large", f"1.0.{number}", tgz({"a": bytes([number]) * 100}), "kpm")
    document = json.loads(old.dump(tmp_path / "dump.json").read_text())
    for item in document["packages"]:
        item["blob"] += "\n" * 1_000_000
    (tmp_path / "dump.json").write_text(json.dumps(document))
    del document
    tracemalloc.start()
    outcomes = await take(tmp_path / "dump.json", limit=3_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(outcomes) > 40
    assert peak < 20_000_000
