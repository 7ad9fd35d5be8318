"""The upstream conformance suite of the OCI distribution specification, judged by its results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from conformance.conftest import Run, Server, Servers, Tool

SPEC_1_1 = {"OCI_VERSION": "1.1"}
SPEC_DEV = {"OCI_VERSION": "dev", "OCI_DATA_SPARSE": "true"}
ABSENT_FROM_1_1 = frozenset(
    {
        "Blob upload cancel",
        "Manifest put with tag params",
        "Sparse Manifests",
        "Tag Param",
        "Tag Param sha512",
    }
)
LEAST_CHECKS = {"apis": 28, "data": 24}
"""How many verdicts the suite gives in each group; fewer would mean that it did not run."""

Results = Mapping[str, Mapping[str, str]]
"""The part of ``results.yaml`` that holds the verdicts: for each group, by the names of checks."""


def play(run: Run, program: str, server: Server, settings: Mapping[str, str], at: Path) -> Results:
    """Run the suite against `server` and return its verdicts, whatever its exit status was."""
    target = {"OCI_REGISTRY": server.host, "OCI_TLS": "disabled", "OCI_RESULTS_DIR": str(at)}
    run("sh", "-c", '"$0" || test $? -eq 1', program, env={**target, **settings}, timeout=600)
    results: Results = yaml.safe_load((at / "results.yaml").read_text())
    return results


def judge(results: Results, disabled: frozenset[str]) -> None:
    """Assert that every check passed, but for those that must be disabled."""
    for group, least in LEAST_CHECKS.items():
        verdicts = results[group]
        assert len(verdicts) >= least
        expected = {name: "Disabled" if name in disabled else "Pass" for name in verdicts}
        assert verdicts == expected


@pytest.mark.parametrize(
    ("settings", "server_settings", "disabled"),
    [
        pytest.param(SPEC_1_1, {}, ABSENT_FROM_1_1, id="1.1"),
        pytest.param(SPEC_DEV, {"OCIAPPR_MANIFESTS__SPARSE": "all"}, frozenset(), id="dev"),
    ],
)
def test_every_check_passes(
    settings: Mapping[str, str],
    server_settings: Mapping[str, str],
    disabled: frozenset[str],
    start_server: Servers,
    run: Run,
    tool: Tool,
    tmp_path: Path,
) -> None:
    server = start_server(env=server_settings)
    results = play(run, tool("conformance"), server, settings, tmp_path / "results")
    judge(results, disabled)
