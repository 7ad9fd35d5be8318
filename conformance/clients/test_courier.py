"""operator-courier 2.1.11: a bundle pushed, a second push refused with the server's words.

The client has its server's address built in; what lies in courier-startup replaces it.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from conformance.clients.appr import API, content_digest
from conformance.conftest import Ran, Run, Server, Tool
from conformance.wire import expect, fetch, get_manifest, tags

_STARTUP: Final = Path(__file__).parent / "courier-startup"
_TOKEN: Final = "basic bWU6c2VjcmV0"  # of nobody: without accounts the server ignores it

_PACKAGE: Final = """\
packageName: {name}
channels:
- name: alpha
  currentCSV: memo-operator.v0.1.0
"""
_DEFINITION: Final = """\
apiVersion: apiextensions.k8s.io/v1beta1
kind: CustomResourceDefinition
metadata:
  name: memos.example.org
spec:
  group: example.org
  version: v1
  names: {kind: Memo, listKind: MemoList, plural: memos, singular: memo}
  scope: Namespaced
"""
_SERVICE: Final = """\
apiVersion: operators.coreos.com/v1alpha1
kind: ClusterServiceVersion
metadata:
  name: memo-operator.v0.1.0
spec:
  displayName: Memo
  version: 0.1.0
  installModes:
  - {type: OwnNamespace, supported: true}
  install:
    strategy: deployment
    spec: {deployments: [], permissions: []}
  customresourcedefinitions:
    owned:
    - {name: memos.example.org, kind: Memo, version: v1, displayName: Memo, description: a memo}
"""


@dataclass(frozen=True, slots=True)
class Courier:
    """The client, bound to one bundle and the package it is pushed to."""

    run: Run
    program: str
    server: Server
    bundle: Path
    package: str

    def push(self, release: str, *, fails: bool = False) -> Ran:
        namespace, _, name = self.package.partition("/")
        words = ["push", str(self.bundle), namespace, name, release, _TOKEN]
        env = {"OPERATOR_COURIER_URL": self.server.url, "PYTHONPATH": str(_STARTUP)}
        return self.run(self.program, *words, env=env, fails=fails)

    def blob(self, release: str) -> bytes:
        path = f"{API}/{self.package}/{release}/helm/pull"
        return expect(fetch(self.server, "GET", path), 200).body


@pytest.fixture
def courier(run: Run, tool: Tool, server: Server, repo: str, tmp_path: Path) -> Courier:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "memo.package.yaml").write_text(_PACKAGE.format(name=repo.partition("/")[2]))
    (bundle / "memo.crd.yaml").write_text(_DEFINITION)
    (bundle / "memo.v0.1.0.clusterserviceversion.yaml").write_text(_SERVICE)
    return Courier(run, tool("operator-courier"), server, bundle, repo)


def test_bundle_is_a_release_of_type_helm(courier: Courier) -> None:
    courier.push("0.1.0")
    blob = courier.blob("0.1.0")
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as archive:
        folder, bundle = archive.getmembers()
        assert folder.isdir()
        assert bundle.name == f"{folder.name}/bundle.yaml"
        assert "memo-operator.v0.1.0" in archive.extractfile(bundle).read().decode()  # type: ignore[union-attr]
    path = f"{API}/{courier.package}/0.1.0/helm"
    shown = expect(fetch(courier.server, "GET", path), 200).json()
    assert isinstance(shown, dict)
    assert shown["content"]["digest"] == content_digest(blob)
    assert shown["content"]["size"] == len(blob)


def test_bundle_without_a_chart_is_no_helm_chart_for_oci(courier: Courier) -> None:
    """A Helm client that found a chart's media types here would fail on the archive."""
    courier.push("0.1.0")
    manifest, _, _ = get_manifest(courier.server, courier.package, "0.1.0")
    assert b"vnd.cncf.helm" not in manifest
    assert tags(courier.server, courier.package) == ["0.1.0"]


def test_second_push_is_refused_in_the_server_s_words(courier: Courier) -> None:
    courier.push("0.1.0")
    first = courier.blob("0.1.0")
    refused = courier.push("0.1.0", fails=True)
    assert refused.code == 1
    assert refused.stderr.splitlines()[-1] == "Package exists already"
    assert courier.blob("0.1.0") == first


def test_malformed_release_is_refused_in_the_server_s_words(courier: Courier) -> None:
    refused = courier.push("1.0", fails=True)
    assert refused.code == 1
    assert refused.stderr.splitlines()[-1].startswith("Invalid version string: ")


def test_deleted_bundle_can_be_pushed_again(courier: Courier) -> None:
    """The client's own integration test deletes what it pushed."""
    courier.push("0.1.0")
    path = f"{API}/{courier.package}/0.1.0/helm"
    expect(fetch(courier.server, "DELETE", path), 200)
    expect(fetch(courier.server, "GET", path), 404)
    courier.push("0.1.0")
    assert courier.blob("0.1.0")
