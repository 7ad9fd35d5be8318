"""Archives: the content digest, the Chart.yaml in them, and hostile ones."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import random
import tarfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociappr.archive import CHART_LIMIT, ContentHash, Gunzip, inspect
from ociappr.digest import ContentDigest
from ociappr.errors import PackageInvalid, TooLarge

LIMIT = 64 * 1024 * 1024
CHART = b"apiVersion: v2\nname: web\nversion: 1.2.3\n"


def tar(files: dict[str, bytes], *, form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def content_digest(plain: bytes) -> ContentDigest:
    return ContentDigest(hashlib.sha256(plain).hexdigest())


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("directory", ["web", "d" * 90, "d" * 150, "é" * 60])
def test_the_chart_is_found_whatever_the_tar_format(form: int, directory: str) -> None:
    if form == tarfile.USTAR_FORMAT and len(directory.encode()) > 100:
        directory = directory[:40]
    plain = tar(
        {f"{directory}/values.yaml": b"x" * 1000, f"{directory}/Chart.yaml": CHART}, form=form
    )
    found = inspect(gzip.compress(plain), limit=LIMIT)
    assert found.chart == CHART
    assert found.content_digest == content_digest(plain)


def test_only_a_file_in_a_top_directory_is_the_chart() -> None:
    plain = tar(
        {
            "Chart.yaml": b"top",
            "./Chart.yaml": b"dot",
            "web/charts/Chart.yaml": b"deep",
            "web/Chart.yaml.bak": b"other",
        }
    )
    assert inspect(gzip.compress(plain), limit=LIMIT).chart is None


def test_a_link_called_chart_is_no_chart() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("web/Chart.yaml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert inspect(gzip.compress(out.getvalue()), limit=LIMIT).chart is None


@pytest.mark.parametrize(("size", "found"), [(CHART_LIMIT, True), (CHART_LIMIT + 1, False)])
def test_a_chart_beyond_the_limit_is_not_read(size: int, *, found: bool) -> None:
    plain = tar({"web/Chart.yaml": b"#" * size})
    assert (inspect(gzip.compress(plain), limit=LIMIT).chart is not None) is found


def test_an_empty_tar_is_an_archive() -> None:
    plain = tar({})
    assert inspect(gzip.compress(plain), limit=LIMIT).content_digest == content_digest(plain)


def test_several_gzip_members_and_padding_are_one_stream() -> None:
    plain = tar({"web/Chart.yaml": CHART})
    pieces = [plain[:100], b"", plain[100:600], plain[600:]]
    packed = b"".join(map(gzip.compress, pieces)) + b"\0" * 512
    assert inspect(packed, limit=LIMIT).content_digest == content_digest(plain)


def test_a_tar_that_breaks_off_is_searched_up_to_there() -> None:
    plain = tar({"web/Chart.yaml": CHART, "web/values.yaml": b"x" * 5000})[:2000]
    found = inspect(gzip.compress(plain), limit=LIMIT)
    assert (found.chart, found.content_digest) == (CHART, content_digest(plain))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"plain bytes",
        zlib.compress(tar({})),
        tar({"web/Chart.yaml": CHART}),
        gzip.compress(b""),
        gzip.compress(b"just text"),
        gzip.compress(b"x" * 2000),
        gzip.compress(tar({}))[:-1],
        gzip.compress(tar({}))[:12],
        gzip.compress(tar({})) + b"rest",
        gzip.compress(tar({}))[:-8] + b"\1" * 8,
    ],
)
def test_what_is_no_tar_gz_is_refused(data: bytes) -> None:
    with pytest.raises(PackageInvalid):
        inspect(data, limit=LIMIT)


def test_the_output_is_capped_absolutely() -> None:
    bomb = gzip.compress(bytes(LIMIT))
    assert inspect(bomb, limit=LIMIT).chart is None
    with pytest.raises(TooLarge):
        inspect(bomb, limit=LIMIT - 1)


def test_a_swarm_of_gzip_members_is_refused() -> None:
    with pytest.raises(TooLarge, match="members"):
        inspect(gzip.compress(b"") * 70_000, limit=LIMIT)


def test_no_block_of_output_is_large() -> None:
    blocks = list(Gunzip(limit=LIMIT).feed(gzip.compress(bytes(10**7))))
    assert max(map(len, blocks)) <= 256 * 1024
    assert sum(map(len, blocks)) == 10**7


@given(st.binary(max_size=3000), st.lists(st.integers(1, 500), max_size=10))
def test_the_content_hash_does_not_depend_on_the_blocks(plain: bytes, cuts: list[int]) -> None:
    packed = gzip.compress(plain)
    running = ContentHash(limit=LIMIT)
    for cut in cuts:
        running.update(packed[:cut])
        packed = packed[cut:]
    running.update(packed)
    assert running.finish() == content_digest(plain)


def test_a_damaged_archive_is_read_or_refused_but_breaks_nothing() -> None:
    chance = random.Random(7)
    plain = tar({"d" * 150 + "/x": b"1" * 700, "web/Chart.yaml": CHART}, form=tarfile.PAX_FORMAT)
    for _ in range(2000):
        damaged = bytearray(plain)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        packed = gzip.compress(bytes(damaged), 1)
        if chance.random() < 0.2:
            packed = packed[: chance.randrange(len(packed))]
        with contextlib.suppress(PackageInvalid, TooLarge):
            inspect(packed, limit=LIMIT)


def test_a_size_in_base_256_is_read() -> None:
    plain = bytearray(tar({"web/Chart.yaml": CHART}))
    plain[124:136] = b"\x80" + len(CHART).to_bytes(11, "big")
    plain[148:156] = b" " * 8
    plain[148:156] = f"{sum(plain[:512]):06o}\0 ".encode()
    assert inspect(gzip.compress(bytes(plain)), limit=LIMIT).chart == CHART


def test_a_very_long_name_is_passed_over() -> None:
    plain = tar({"d" * 70_000 + "/x": b"1", "web/Chart.yaml": CHART})
    assert inspect(gzip.compress(plain), limit=LIMIT).chart == CHART
