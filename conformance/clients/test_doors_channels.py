"""Channels behind two doors: made by appr, seen as tags, moved from either side."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from conformance.clients.appr import API
from conformance.clients.charts import Chart
from conformance.clients.doors import COMPOSE, HELMS, Doors
from conformance.conftest import Run, Server, Tool
from conformance.wire import Reply, expect, fetch, push_image


@pytest.fixture
def doors(run: Run, tool: Tool, server: Server, repo: str, tmp_path: Path) -> Doors:
    return Doors(run, tool, server, repo, tmp_path)


@pytest.fixture
def archives(doors: Doors) -> dict[str, bytes]:
    """The archives of two releases of one media type; `stable` is the first."""
    pushed = {x: doors.appr_push_compose(x, text=x) for x in ("1.0.0", "1.1.0")}
    set_channel(doors, "stable", "1.0.0", 200)
    return pushed


def set_channel(doors: Doors, channel: str, release: str, *statuses: int) -> Reply:
    path = f"{API}/{doors.repo}/channels/{quote(channel, safe='')}/{release}"
    return expect(fetch(doors.server, "POST", path), *statuses)


def test_channel_is_a_tag_that_follows_its_release(
    doors: Doors, archives: dict[str, bytes]
) -> None:
    assert doors.tags() == ["1.0.0", "1.1.0", "stable"]
    assert doors.releases() == [("1.0.0", COMPOSE), ("1.1.0", COMPOSE)]
    assert doors.digest("stable") == doors.digest("1.0.0")
    assert list(doors.oras_pull(":stable").values()) == [archives["1.0.0"]]
    assert doors.appr_pull(":stable", COMPOSE) == archives["1.0.0"]


def test_channel_moved_by_appr_moves_for_oras(doors: Doors, archives: dict[str, bytes]) -> None:
    doors.appr("channel", ".", "-c", "stable", "--set-release", "-v", "1.1.0")
    assert list(doors.oras_pull(":stable").values()) == [archives["1.1.0"]]


def test_channel_moved_by_oras_moves_for_appr(doors: Doors, archives: dict[str, bytes]) -> None:
    doors.oras("tag", ":1.1.0", "stable")
    assert doors.channels() == {"stable": "1.1.0"}
    assert doors.appr_pull(":stable", COMPOSE) == archives["1.1.0"]


@pytest.mark.usefixtures("archives")
def test_forced_push_of_its_release_moves_the_channel(doors: Doors) -> None:
    forced = doors.appr_push_compose("1.0.0", "-f", text="forced")
    assert list(doors.oras_pull(":stable").values()) == [forced]
    assert doors.appr_pull(":stable", COMPOSE) == forced


@pytest.mark.usefixtures("archives")
def test_second_type_of_its_release_comes_with_the_channel(doors: Doors) -> None:
    chart = doors.appr_push_chart("1.0.0")
    assert doors.digest("stable") == doors.digest("1.0.0")
    assert doors.appr_pull(":stable", "helm") == chart


@pytest.mark.parametrize("helm", HELMS)
def test_helm_pulls_what_the_channel_names(doors: Doors, helm: str) -> None:
    """Helm takes only versions for tags, so the channel is resolved for it."""
    archive = doors.appr_push_chart("1.0.0", "-c", "stable")
    folder = doors.new_folder()
    words = ("--plain-http", f"oci://{doors.reference}@{doors.digest('stable')}")
    doors.run(doors.tool(helm), "pull", *words, "--destination", folder)
    assert [path.read_bytes() for path in folder.iterdir()] == [archive]


@pytest.mark.parametrize("helm", HELMS)
def test_channel_is_no_version_for_helm(doors: Doors, helm: str) -> None:
    archive = doors.appr_push_chart("1.0.0", "-c", "stable")
    assert doors.helm_pull(helm) == (f"{doors.name}-1.0.0.tgz", archive)


@pytest.mark.usefixtures("archives")
def test_other_content_under_a_channel_s_name_is_an_ordinary_tag(doors: Doors) -> None:
    digest = push_image(doors.server, doors.repo, "stable", [b"no package"])
    assert doors.digest("stable") == digest
    assert doors.channels() == {}


@pytest.mark.usefixtures("archives")
def test_channel_takes_over_a_tag_that_points_at_a_release(doors: Doors) -> None:
    doors.oras("tag", ":1.0.0", "beta")
    assert doors.channels() == {"stable": "1.0.0"}
    set_channel(doors, "beta", "1.1.0", 200)
    assert doors.channels() == {"beta": "1.1.0", "stable": "1.0.0"}
    assert doors.digest("beta") == doors.digest("1.1.0")


@pytest.mark.usefixtures("archives")
def test_channel_does_not_take_over_any_other_tag(doors: Doors) -> None:
    digest = push_image(doors.server, doors.repo, "latest", [b"no package"])
    set_channel(doors, "latest", "1.0.0", 409)
    assert doors.digest("latest") == digest
    assert doors.channels() == {"stable": "1.0.0"}


@pytest.mark.usefixtures("archives")
@pytest.mark.parametrize("name", ["two words", "-", ".hidden", "é", "x" * 129, "1.1.0", "a:b"])
def test_name_that_is_no_tag_or_a_release_is_refused(doors: Doors, name: str) -> None:
    set_channel(doors, name, "1.0.0", 400)
    assert doors.channels() == {"stable": "1.0.0"}


@pytest.mark.usefixtures("archives")
def test_link_whose_release_is_gone_is_absent_until_it_returns(doors: Doors) -> None:
    doors.appr("delete-package", "@1.0.0", "-t", COMPOSE)
    assert doors.digest("stable") is None
    assert doors.tags() == ["1.1.0"]
    again = doors.appr_push_compose("1.0.0", text="again")
    assert doors.tags() == ["1.0.0", "1.1.0", "stable"]
    assert list(doors.oras_pull(":stable").values()) == [again]


@pytest.mark.usefixtures("archives")
def test_channel_deleted_by_appr_is_gone_for_oci(doors: Doors) -> None:
    doors.appr("channel", ".", "-c", "stable", "--delete")
    assert doors.digest("stable") is None
    assert doors.tags() == ["1.0.0", "1.1.0"]


@pytest.mark.usefixtures("archives")
def test_channel_deleted_by_oci_is_gone_for_appr(doors: Doors) -> None:
    path = f"/v2/{doors.repo}/manifests/stable"
    expect(fetch(doors.server, "DELETE", path), 202)
    assert doors.channels() == {}
    assert doors.tags() == ["1.0.0", "1.1.0"], "the release that it named stays"


def test_channel_of_a_chart_that_helm_pushed(doors: Doors) -> None:
    for version in ("1.0.0", "1.1.0"):
        doors.helm_push(Chart(doors.name, version))
    doors.appr("channel", ".", "-c", "stable", "--set-release", "-v", "1.0.0")
    assert doors.digest("stable") == doors.digest("1.0.0")
    assert doors.appr_pull(":stable", "helm") == Chart(doors.name, "1.0.0").archive()
