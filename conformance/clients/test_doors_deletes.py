"""Deletes behind two doors: what one deletes the other misses, and bytes outlive their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.clients.appr import API, content_digest
from conformance.clients.charts import Chart
from conformance.clients.doors import COMPOSE, HELMS, Doors
from conformance.conftest import Run, Server, Tool
from conformance.wire import digest_of, expect, fetch, get_blob, get_manifest


@pytest.fixture
def doors(run: Run, tool: Tool, server: Server, repo: str, tmp_path: Path) -> Doors:
    return Doors(run, tool, server, repo, tmp_path)


@pytest.mark.parametrize("helm", HELMS)
def test_release_deleted_by_appr_is_gone_for_helm(doors: Doors, helm: str) -> None:
    doors.appr_push_chart("1.0.0")
    newer = doors.appr_push_chart("1.1.0")
    doors.appr("delete-package", "@1.0.0", "-t", "helm")
    assert doors.tags() == ["1.1.0"]
    words = ("--plain-http", f"oci://{doors.reference}", "--version", "1.0.0")
    doors.run(doors.tool(helm), "pull", *words, fails=True)
    assert doors.helm_pull(helm)[1] == newer


def test_appr_delete_and_forced_push_leave_manifest_and_blob(doors: Doors) -> None:
    first = doors.appr_push_chart("1.0.0")
    kept = [(first, doors.digest("1.0.0"))]
    second = doors.appr_push_chart("1.0.0", "-f", greeting="moin")
    kept.append((second, doors.digest("1.0.0")))
    doors.appr("delete-package", "@1.0.0", "-t", "helm")
    assert doors.tags() == []
    for archive, digest in kept:
        assert digest is not None
        assert get_manifest(doors.server, doors.repo, digest)[2] == digest
        assert get_blob(doors.server, doors.repo, digest_of(archive)) == archive
        path = f"{API}/{doors.repo}/blobs/sha256/{content_digest(archive)}"
        assert expect(fetch(doors.server, "GET", path), 200).body == archive


def test_one_type_deleted_by_appr_leaves_the_other(doors: Doors) -> None:
    doors.appr_push_chart("1.0.0")
    archive = doors.appr_push_compose("1.0.0")
    doors.appr("delete-package", "@1.0.0", "-t", "helm")
    assert doors.releases() == [("1.0.0", COMPOSE)]
    assert list(doors.oras_pull(":1.0.0").values()) == [archive]


def test_tag_deleted_by_oci_is_gone_for_appr(doors: Doors) -> None:
    doors.appr_push_chart("1.0.0")
    doors.helm_push(Chart(doors.name, "1.1.0"))
    for version in ("1.0.0", "1.1.0"):
        path = f"/v2/{doors.repo}/manifests/{version}"
        expect(fetch(doors.server, "DELETE", path), 202)
        assert version not in doors.tags()
    assert doors.releases() == []
    assert doors.appr("pull", "@1.0.0", "-t", "helm", fails=True).code == 2


def test_manifest_deleted_by_oras_takes_release_and_channel_along(doors: Doors) -> None:
    doors.appr_push_compose("1.0.0", "-c", "stable")
    doors.appr_push_compose("1.1.0", text="other")
    doors.oras("manifest delete", "--force", ":1.0.0")
    assert doors.releases() == [("1.1.0", COMPOSE)]
    assert doors.tags() == ["1.1.0"]
    assert doors.digest("stable") is None
    refused = doors.appr("pull", ":stable", "-t", COMPOSE, fails=True)
    assert refused.code == 2


def test_release_deleted_by_either_door_is_free_for_both(doors: Doors) -> None:
    doors.appr_push_chart("1.0.0")
    doors.appr("delete-package", "@1.0.0", "-t", "helm")
    chart = Chart(doors.name, "1.0.0", "from helm")
    doors.helm_push(chart)
    assert doors.appr_pull("@1.0.0", "helm") == chart.archive()
    expect(fetch(doors.server, "DELETE", f"/v2/{doors.repo}/manifests/1.0.0"), 202)
    archive = doors.appr_push_chart("1.0.0", greeting="from appr")
    assert doors.helm_pull("helm-3.18", "--version", "1.0.0")[1] == archive
