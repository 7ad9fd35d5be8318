"""helm 3.18, 3.22 and 4.3: push, pull, show, template, dependency build, signed charts."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import pytest

from conformance import wire
from conformance.clients import charts
from conformance.clients.charts import Chart, Dependency, signing_key
from conformance.clients.conftest import Client
from conformance.clients.doors import HELMS
from conformance.conftest import Run, Server, Tool

VERSIONS = ("1.0.0", "1.2.3+build.5", "1.3.0", "2.0.0-rc.1")


@pytest.fixture(params=HELMS)
def helm(request: pytest.FixtureRequest, run: Run, tool: Tool, tmp_path: Path) -> Client:
    """Run one of the helms in the folder of the test."""
    return partial(run, tool(request.param), cwd=tmp_path)


@pytest.fixture
def space(repo: str) -> str:
    """A namespace of one segment: with a chart's name it makes the two of a package."""
    return repo.replace("/", "-")


@pytest.fixture
def here(server: Server, space: str) -> str:
    """Where the charts of this test live."""
    return f"oci://{server.host}/{space}"


def push(helm: Client, chart: Chart, folder: Path, here: str) -> str:
    """Push with helm and return the digest that it printed."""
    ran = helm("push", "--plain-http", chart.write(folder), here)
    found = re.search("^Digest: (.+)$", ran.stdout + ran.stderr, re.MULTILINE)
    assert found, "helm 3 tells it on stderr, helm 4 on stdout"
    return found[1]


@pytest.fixture
def published(helm: Client, here: str, tmp_path: Path) -> dict[str, str]:
    """The digests of charts called tiny in several versions."""
    return {version: push(helm, Chart(version=version), tmp_path, here) for version in VERSIONS}


def pull(helm: Client, tmp_path: Path, *words: str) -> tuple[str, bytes]:
    """Pull into an empty folder; returns the name and the bytes of the only file."""
    folder = tmp_path / "pulled"
    folder.mkdir(exist_ok=True)
    helm("pull", "--plain-http", "--destination", folder, *words)
    (path,) = folder.iterdir()
    content = path.read_bytes()
    path.unlink()
    return path.name, content


@pytest.mark.parametrize("below", ["", "/below/it"], ids=["package", "deeper"])
def test_push(
    helm: Client, server: Server, space: str, here: str, tmp_path: Path, below: str
) -> None:
    chart, repo = Chart(version="1.2.3+build.5"), f"{space}{below}/tiny"
    digest = push(helm, chart, tmp_path, f"{here}{below}")
    assert wire.tags(server, repo) == ["1.2.3_build.5"]
    data, media_type, stored = wire.get_manifest(server, repo, "1.2.3_build.5")
    assert stored == digest
    assert media_type == wire.OCI_MANIFEST
    manifest = json.loads(data)
    assert manifest["config"]["mediaType"] == charts.CONFIG_TYPE
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == charts.CONTENT_TYPE
    assert wire.get_blob(server, repo, layer["digest"]) == chart.archive()
    config = json.loads(wire.get_blob(server, repo, manifest["config"]["digest"]))
    assert (config["name"], config["version"]) == ("tiny", "1.2.3+build.5")
    assert pull(helm, tmp_path, f"{here}{below}/tiny") == (chart.filename, chart.archive())


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        pytest.param((), "1.3.0", id="nothing"),
        pytest.param(("--version", "1.0.0"), "1.0.0", id="version"),
        pytest.param(("--version", "1.2.3+build.5"), "1.2.3+build.5", id="build"),
        pytest.param(("--version", ">=1.0, <1.3"), "1.2.3+build.5", id="range"),
        pytest.param(("--version", "~1.0"), "1.0.0", id="tilde"),
        pytest.param(("--version", "^1"), "1.3.0", id="caret"),
        pytest.param(("--devel",), "2.0.0-rc.1", id="devel"),
        pytest.param(("--version", "2.0.0-rc.1"), "2.0.0-rc.1", id="prerelease"),
    ],
)
def test_pull(helm: Client, here: str, tmp_path: Path, asked: tuple[str, ...], chosen: str) -> None:
    wanted = Chart(version=chosen)
    assert pull(helm, tmp_path, f"{here}/tiny", *asked) == (wanted.filename, wanted.archive())


def test_pull_by_tag_and_digest(
    helm: Client, here: str, tmp_path: Path, published: dict[str, str]
) -> None:
    by_tag = pull(helm, tmp_path, f"{here}/tiny:1.0.0")
    assert by_tag == ("tiny-1.0.0.tgz", Chart(version="1.0.0").archive())
    for version, digest in published.items():
        _, content = pull(helm, tmp_path, f"{here}/tiny@{digest}")
        assert content == Chart(version=version).archive()


@pytest.mark.usefixtures("published")
def test_pull_of_what_is_not_there(helm: Client, here: str) -> None:
    asked = ("pull", "--plain-http", f"{here}/tiny", "--version")
    assert "9.9.9: not found" in helm(*asked, "9.9.9", fails=True).stderr
    assert "ould not locate a version" in helm(*asked, ">=9", fails=True).stderr
    absent = helm("pull", "--plain-http", f"{here}/absent", fails=True)
    assert "name unknown" in absent.stderr


@pytest.mark.usefixtures("published")
def test_show_and_template(helm: Client, here: str) -> None:
    asked = ("--plain-http", f"{here}/tiny", "--version", "1.2.3+build.5")
    assert "version: 1.2.3+build.5\n" in helm("show", "chart", *asked).stdout
    assert "greeting: hello\n" in helm("show", "values", *asked).stdout
    assert "# tiny\n" in helm("show", "readme", *asked).stdout
    assert "chart: tiny-1.2.3+build.5\n" in helm("template", "try", *asked).stdout
    newest = helm(
        "template", "try", "--plain-http", f"{here}/tiny", "--set", "greeting=moin"
    ).stdout
    assert "name: try-tiny\n" in newest
    assert "chart: tiny-1.3.0\n" in newest
    assert 'greeting: "moin"\n' in newest


@pytest.mark.usefixtures("published")
def test_dependency_build(helm: Client, here: str, tmp_path: Path) -> None:
    wanted = Dependency("tiny", "^1.0.0", here)
    parent = Chart("parent", "0.1.0", dependencies=(wanted,)).unpack(tmp_path)
    helm("dependency", "build", "--plain-http", parent)
    (brought,) = (parent / "charts").iterdir()
    assert brought.name == "tiny-1.3.0.tgz"
    assert brought.read_bytes() == Chart(version="1.3.0").archive()

    push(helm, Chart(version="1.4.0"), tmp_path, here)
    brought.unlink()
    helm("dependency", "build", "--plain-http", parent)
    assert brought.read_bytes() == Chart(version="1.3.0").archive(), "the lock file decides"
    assert "chart: tiny-1.3.0\n" in helm("template", "try", parent).stdout


def test_signed_chart(helm: Client, server: Server, space: str, here: str, tmp_path: Path) -> None:
    chart, key, other = Chart("signed"), signing_key("signer"), signing_key("other")
    provenance = chart.provenance(key)
    (tmp_path / f"{chart.filename}.prov").write_bytes(provenance)
    (tmp_path / "ring").write_bytes(key.keyring())
    (tmp_path / "other").write_bytes(other.keyring())
    digest = push(helm, chart, tmp_path, here)

    manifest = json.loads(wire.get_manifest(server, f"{space}/signed", digest)[0])
    layers = {layer["mediaType"]: layer["digest"] for layer in manifest["layers"]}
    assert layers == {
        charts.CONTENT_TYPE: wire.digest_of(chart.archive()),
        charts.PROVENANCE_TYPE: wire.digest_of(provenance),
    }

    pulled = tmp_path / "pulled"
    pulled.mkdir()
    asked = ("pull", "--plain-http", "-d", pulled, f"{here}/signed", "--verify", "--keyring")
    assert "Signed by: signer" in helm(*asked, tmp_path / "ring").stdout
    assert (pulled / chart.filename).read_bytes() == chart.archive()
    assert (pulled / f"{chart.filename}.prov").read_bytes() == provenance
    assert "unknown entity" in helm(*asked, tmp_path / "other", fails=True).stderr


def test_same_chart_again_and_changed(
    helm: Client, server: Server, space: str, here: str, tmp_path: Path
) -> None:
    first = push(helm, Chart(), tmp_path, here)
    changed = Chart(greeting="goodbye")
    second = push(helm, changed, tmp_path, here)
    assert second != first
    assert wire.tags(server, f"{space}/tiny") == ["1.0.0"]
    assert pull(helm, tmp_path, f"{here}/tiny")[1] == changed.archive()
    assert pull(helm, tmp_path, f"{here}/tiny@{first}")[1] == Chart().archive()
