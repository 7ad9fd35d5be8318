"""appr 0.7.4: every command that talks to a registry, two media types in a release, channels.

Left out: `plugins` (asks GitHub), `run-server` (is a registry) and `jsonnet` (reads a local file).
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from conformance.clients.appr import API, Appr, content_digest, rows
from conformance.clients.charts import Chart
from conformance.conftest import Run, Server, Tool
from conformance.wire import expect, fetch


@pytest.fixture
def appr(run: Run, tool: Tool, server: Server, repo: str) -> Appr:
    return Appr(run, tool("appr"), server, repo)


@pytest.fixture
def chart(tmp_path: Path, repo: str) -> Path:
    """Write a chart that is called as its package, and return its directory."""
    return Chart(repo.partition("/")[2], "1.0.0").unpack(tmp_path)


@pytest.fixture
def compose(tmp_path: Path) -> Path:
    folder = tmp_path / "compose"
    (folder / "env").mkdir(parents=True)
    (folder / "docker-compose.yml").write_text("services: {}\n")
    (folder / "env" / "test").write_text("A=1\n")
    return folder


def files_below(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_version(appr: Appr) -> None:
    printed = appr("version", appr.server.url).stdout
    assert "'appr-api': '0.7.4'" in printed.splitlines()[0]
    assert printed.splitlines()[1] == "Client-version: 0.7.4"


def test_pushed_chart_is_listed_and_shown(appr: Appr, chart: Path) -> None:
    pushed = appr.push(chart).stdout
    assert pushed.strip() == f"package: {appr.package} (1.0.0 | helm) pushed"
    listed = appr("list", appr.server.url, "-o", "test", "-s", appr.package).stdout
    assert rows(listed) == [[f"{appr.server.url}/{appr.package}", "1.0.0", "-", "helm"]]
    blob = appr.blob("1.0.0", "helm")
    shown = appr("show", "@1.0.0", "-w").stdout
    assert shown.startswith(f"Info: {appr.package}\n")
    release, kind, digest, _created, size, downloads = rows(shown)[0]
    assert [release, kind, digest, size, downloads] == [
        "1.0.0",
        "helm",
        content_digest(blob),
        str(len(blob)),
        "-",
    ]
    assert rows(appr("show", ".", "-t", "helm").stdout) == [["1.0.0", "helm", digest]]
    assert rows(appr("show", ".", "-v", "1.0.0").stdout) == [["1.0.0", "helm", digest]]


def test_list_filters_by_organization_and_media_type(appr: Appr, compose: Path) -> None:
    appr.push(compose, "-t", "docker-compose", "-v", "0.1.0")
    wanted = [f"{appr.server.url}/{appr.package}", "0.1.0", "-", "docker-compose"]
    assert wanted in rows(appr("list", appr.server.url, "-t", "docker-compose").stdout)
    assert wanted not in rows(appr("list", appr.server.url, "-t", "helm").stdout)
    assert rows(appr("list", appr.server.url, "-o", "nobody").stdout) == []


def test_pull_unpacks_what_was_pushed(appr: Appr, chart: Path, tmp_path: Path) -> None:
    appr.push(chart)
    target = tmp_path / "pulled"
    printed = appr("pull", "@1.0.0", "--dest", target, "--output", "json").stdout
    name = f"{appr.package.replace('/', '_')}_1.0.0"
    assert json.loads(printed) == {
        "pull": appr.package,
        "media_type": "helm",
        "version": "1.0.0",
        "path": str(target / name),
    }
    assert files_below(target / name / chart.name) == files_below(chart)


def test_pull_by_release_channel_query_and_digest_is_one_archive(
    appr: Appr, chart: Path, tmp_path: Path
) -> None:
    appr.push(chart, "-c", "stable")
    blob = appr.blob("1.0.0", "helm")
    asked = ["@1.0.0", ":stable", "@1", f"@sha256:{content_digest(blob)}", "."]
    for number, suffix in enumerate(asked):
        assert appr.pull(suffix, "helm", tmp_path / str(number)) == blob, suffix


def test_second_push_is_refused_until_forced(appr: Appr, chart: Path) -> None:
    appr.push(chart)
    first = appr.blob("1.0.0", "helm")
    (chart / "values.yaml").write_text("greeting: again\n")
    refused = appr("push", ".", cwd=chart, fails=True)
    assert refused.code == 2
    assert "409 Client Error" in refused.stderr
    assert "Package exists already" in refused.stderr
    printed = appr("push", ".", "--output", "json", cwd=chart, fails=True)
    assert printed.code == 2
    assert json.loads(printed.stdout)["response"]["error"]["code"] == "package-exists"
    assert appr.blob("1.0.0", "helm") == first
    appr.push(chart, "-f")
    assert content_digest(appr.blob("1.0.0", "helm")) != content_digest(first)


def test_push_with_channel_goes_on_when_the_release_exists(appr: Appr, chart: Path) -> None:
    printed = appr.push(chart, "-c", "beta").stdout
    assert printed.splitlines() == [
        f"package: {appr.package} (1.0.0 | helm) pushed",
        ">>> Release '1.0.0' added to 'beta'",
    ]
    assert appr.push(chart, "-c", "stable").stdout == ">>> Release '1.0.0' added to 'stable'\n"
    assert sorted(rows(appr("channel", ".").stdout)) == [["beta", "1.0.0"], ["stable", "1.0.0"]]


def test_two_media_types_in_one_release(
    appr: Appr, chart: Path, compose: Path, tmp_path: Path
) -> None:
    appr.push(chart)
    helm = appr.blob("1.0.0", "helm")
    pushed = appr.push(compose, "-t", "docker-compose", "-v", "1.0.0").stdout
    assert pushed.strip() == f"package: {appr.package} (1.0.0 | docker-compose) pushed"
    other = appr.blob("1.0.0", "docker-compose")
    assert sorted(rows(appr("show", ".").stdout)) == [
        ["1.0.0", "docker-compose", content_digest(other)],
        ["1.0.0", "helm", content_digest(helm)],
    ]
    listed = json.loads(appr("list", appr.server.url, "-s", appr.package, "--output=json").stdout)
    assert sorted(listed[0]["manifests"]) == ["docker-compose", "helm"]
    assert appr.pull("@1.0.0", "helm", tmp_path / "helm") == helm
    assert appr.pull("@1.0.0", "docker-compose", tmp_path / "other") == other
    ambiguous = appr("pull", "@1.0.0", "--dest", tmp_path, fails=True)
    assert ambiguous.code == 2
    assert "media-type non specified" in ambiguous.stderr
    unpacked = json.loads(
        appr("pull", "@1.0.0", "-t", "docker-compose", "--dest", tmp_path, "--output=json").stdout
    )
    assert files_below(Path(unpacked["path"])) == files_below(compose)


def test_channels_are_set_moved_shown_and_deleted(appr: Appr, tmp_path: Path) -> None:
    name = appr.package.partition("/")[2]
    for version in ("1.0.0", "1.1.0"):
        appr.push(Chart(name, version).unpack(tmp_path / version))
    for version in ("1.1.0", "1.0.0"):
        printed = appr("channel", ".", "-c", "stable", "--set-release", "-v", version).stdout
        assert printed == f">>> Release '{version}' added on 'stable'\n"
        assert rows(appr("channel", ".", "-c", "stable").stdout) == [["stable", version]]
    described = json.loads(appr("channel", ".", "--output", "json").stdout)
    assert described == [{"name": "stable", "current": "1.0.0", "releases": ["1.1.0", "1.0.0"]}]
    printed = appr("channel", ".", "-c", "stable", "--remove-release", "-v", "1.0.0").stdout
    assert printed == ">>> Release '1.0.0' removed from 'stable'\n"
    assert rows(appr("channel", ".").stdout) == [["stable", "1.1.0"]]
    printed = appr("channel", ".", "-c", "stable", "--delete").stdout
    assert printed == f">>> Channel 'stable' on '{appr.package}' deleted\n"
    assert json.loads(appr("channel", ".", "--output", "json").stdout) == []
    missing = appr("channel", ".", "-c", "stable", fails=True)
    assert missing.code == 2
    assert "No channel found for package 'stable'" in missing.stderr


def test_channel_wants_a_release_that_exists(appr: Appr, chart: Path) -> None:
    appr.push(chart)
    refused = appr("channel", ".", "-c", "stable", "--set-release", "-v", "2.0.0", fails=True)
    assert refused.code == 2
    assert f"Release 2.0.0 doesn't exist for package {appr.package}" in (
        " ".join(refused.stderr.replace("''", "'").split())
    )


def test_deleted_package_is_gone_and_can_be_pushed_again(
    appr: Appr, chart: Path, compose: Path
) -> None:
    appr.push(chart)
    appr.push(compose, "-t", "docker-compose", "-v", "1.0.0")
    vague = appr("delete-package", ".", "-v", "1.0.0", fails=True)
    assert vague.code == 2
    deleted = appr("delete-package", ".", "-v", "1.0.0", "-t", "docker-compose").stdout
    assert deleted.strip() == f"Deleted package: {appr.package} - 1.0.0"
    assert [row[1] for row in rows(appr("show", ".").stdout)] == ["helm"]
    deleted = appr("delete-package", "@1.0.0", "-t", "helm", "--output", "json").stdout
    assert json.loads(deleted) == {
        "package": appr.package,
        "release": "1.0.0",
        "status": "deleted",
    }
    assert rows(appr("show", ".").stdout) == []
    assert rows(appr("list", appr.server.url, "-s", appr.package).stdout) == []
    appr.push(chart)
    assert [row[:2] for row in rows(appr("show", ".").stdout)] == [["1.0.0", "helm"]]


def test_inspect_reads_files_in_the_archive(appr: Appr, chart: Path) -> None:
    appr.push(chart)
    inside = sorted(f"{chart.name}/{path}" for path in files_below(chart))
    assert appr("inspect", "@1.0.0").stdout.split() == inside
    assert appr("inspect", "@1.0.0", "-t", "helm", "--tree").stdout.split() == inside
    printed = appr("inspect", "@1.0.0", "-f", f"{chart.name}/values.yaml").stdout
    assert printed.strip() == repr((chart / "values.yaml").read_bytes())
    assert appr("inspect", "@1.0.0", "-f", "nothing", fails=True).code == 1


def test_unknown_package_and_release_exit_with_2(appr: Appr, chart: Path) -> None:
    unknown = appr("show", ".", fails=True)
    assert unknown.code == 2
    assert f"package {appr.package} doesn" in unknown.stderr
    assert appr("pull", "@1.0.0", fails=True).code == 2
    appr.push(chart)
    no_match = appr("pull", "@9.9.9", "-t", "helm", fails=True)
    assert no_match.code == 2
    assert "package-release-not-found" in no_match.stderr
    malformed = appr("pull", "@one", "-t", "helm", fails=True)
    assert "422 Client Error" in malformed.stderr


def test_deploy_asks_for_the_kpm_package(appr: Appr, chart: Path) -> None:
    appr.push(chart)
    refused = appr("deploy", ".", "--dry-run", fails=True)
    assert refused.code == 2
    assert f"{API}/{appr.package}/default/kpm/pull?format=json" in refused.stderr


def test_token_of_another_time_does_not_lock_anybody_out(
    appr: Appr, chart: Path, home: Path
) -> None:
    settings = home / ".appr"
    settings.mkdir()
    stored = {"token": "basic bm9ib2R5OmV4cGlyZWQ=", "scope": {"namespace": "*", "repo": "*"}}
    (settings / "auths.yaml").write_text(json.dumps({"auths": {f"{appr.server.url}/cnr": stored}}))
    appr.push(chart)
    assert [row[:2] for row in rows(appr("show", ".").stdout)] == [["1.0.0", "helm"]]
    printed = appr("logout", appr.server.url).stdout
    assert printed.strip() == f">>> Logout complete from {appr.server.url}"
    assert "token" not in (settings / "auths.yaml").read_text()


def test_login_works_and_keeps_no_password(appr: Appr, chart: Path, home: Path) -> None:
    words = ("-u", "me", "-p", "a secret")
    printed = appr("login", appr.server.url, *words, "--output", "json").stdout
    host = appr.server.url
    assert json.loads(printed) == {
        "user": "me",
        "status": "Login succeeded",
        "host": host,
        "scope": None,
    }
    assert appr("login", host, *words).stdout == " >>> Login succeeded\n"
    stored = (home / ".appr" / "auths.yaml").read_text()
    assert f'"{host}/cnr":' in stored
    token = stored.partition('"token": "basic ')[2].partition('"')[0]
    assert base64.b64decode(token) == b"me:"
    appr.push(chart)
    appr("logout", host)
    assert "token" not in (home / ".appr" / "auths.yaml").read_text()


def test_alias_stands_for_the_server(appr: Appr, chart: Path) -> None:
    appr.push(chart)
    appr("config alias", "here", appr.server.url)
    listed = appr("list", "here", "-s", appr.package).stdout
    assert [row[1:] for row in rows(listed)] == [["1.0.0", "-", "helm"]]


def test_helm_commands_want_charts_only(appr: Appr, chart: Path, compose: Path) -> None:
    appr.push(compose, "-t", "docker-compose", "-v", "2.0.0")
    assert rows(appr("helm list", appr.server.url, "-s", appr.package).stdout) == []
    appr("helm push", ".", cwd=chart)
    listed = appr("helm list", appr.server.url, "-s", appr.package).stdout
    assert [row[1:] for row in rows(listed)] == [["1.0.0", "-", "helm"]]
    assert [row[:2] for row in rows(appr("helm show", ".").stdout)] == [["1.0.0", "helm"]]


def test_helm_dep_fetches_the_charts_that_requirements_name(
    appr: Appr, chart: Path, tmp_path: Path
) -> None:
    appr.push(chart, "-c", "stable")
    parent = tmp_path / "parent"
    parent.mkdir()
    wanted = {"name": f"{appr.server.url}/{appr.package}", "version": ":stable"}
    (parent / "requirements.yaml").write_text(json.dumps({"appr": [wanted]}))
    printed = appr("helm dep", cwd=parent).stdout
    assert f"repository: file://appr_charts/{appr.package}" in printed
    assert "version: 1.0.0" in printed
    assert files_below(parent / "appr_charts" / appr.package) == files_below(chart)


def test_helm_install_gives_the_chart_to_helm(
    appr: Appr, chart: Path, tool: Tool, run: Run, tmp_path: Path
) -> None:
    appr.push(chart)
    words = ["helm", "install", f"{appr.server.url}/{appr.package}", "--", "mine"]
    path = f"{Path(tool('helm-4.3')).parent}:/usr/bin:/bin"
    printed = run(appr.program, *words, "--dry-run=client", cwd=tmp_path, env={"PATH": path}).stdout
    assert f"chart: {chart.name}-1.0.0" in printed
    assert "name: mine-" in printed


def test_helm_upgrade_gives_the_chart_to_helm(
    appr: Appr, chart: Path, run: Run, tmp_path: Path
) -> None:
    """A script stands in for helm, which would want a cluster for an upgrade."""
    appr.push(chart)
    stand_in = tmp_path / "bin" / "helm"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\necho "$1 $2 $3"\nsha256sum < "$4"\n')
    stand_in.chmod(0o755)
    words = ["helm", "upgrade", f"{appr.server.url}/{appr.package}@1.0.0", "--", "--wait", "mine"]
    path = f"{stand_in.parent}:/usr/bin:/bin"
    printed = run(appr.program, *words, cwd=tmp_path, env={"PATH": path}).stdout
    expected = hashlib.sha256(appr.blob("1.0.0", "helm")).hexdigest()
    assert printed.split("\n")[-4:-2] == ["upgrade --wait mine", f"{expected}  -"]


def test_a_release_that_is_no_semver_is_refused(appr: Appr, compose: Path) -> None:
    refused = appr("push", ".", "-t", "docker-compose", "-v", "1.0", cwd=compose, fails=True)
    assert refused.code == 2
    assert "422 Client Error" in refused.stderr
    expect(fetch(appr.server, "GET", f"{API}/{appr.package}"), 404)
