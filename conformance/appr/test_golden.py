"""The original server's answers, byte for byte, below both prefixes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from conformance.appr.replay import Scenario, load, replay
from conformance.conftest import Run, Server, Servers

SCENARIOS = load()
PREFIXES = ("", "/cnr")
README_DIGEST = "72ed15c9a65961ecd034cca098ec18eb99002cd402824aae8a674a8ae41bd0ef"


@pytest.fixture(scope="session")
def fresh(servers: Servers) -> Mapping[str, Server]:
    """A server for each prefix: scenarios keep to namespaces of their own, the same in both."""
    return {prefix: servers() for prefix in PREFIXES}


def test_everything_recorded_is_there() -> None:
    assert len(SCENARIOS) == 91
    assert sum(len(scenario.steps) for scenario in SCENARIOS) == 2945


@pytest.mark.parametrize("prefix", PREFIXES, ids=["bare", "cnr"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_answers_as_recorded(
    scenario: Scenario, prefix: str, fresh: Mapping[str, Server], request: pytest.FixtureRequest
) -> None:
    server = fresh[prefix]
    if scenario.needs_empty:
        server = request.getfixturevalue("start_server")()
    failures = replay(scenario, server, prefix=prefix)
    assert not failures, "\n".join(failures)


def test_curl_lines_of_the_readme(start_server: Servers, run: Run, tmp_path: Path) -> None:
    """Push, show and pull as the README of appr tells: without a prefix, as curl sends forms."""
    (sample,) = (scenario for scenario in SCENARIOS if scenario.name == "readme-curl")
    pushed = sample.steps[0]["request"]["text"]
    package = f"{start_server().url}/api/v1/packages/myname/elasticsearch"
    curl = partial(run, "curl", "--silent", "--show-error", "--fail")
    chart = tmp_path / "chart.tar.gz"

    curl("-X", "POST", package, "--data", pushed)
    shown = json.loads(curl(f"{package}/2.2.1/helm").stdout)
    curl(f"{package}/blobs/sha256/{README_DIGEST}", "--output", chart)

    assert (shown["package"], shown["release"]) == ("myname/elasticsearch", "2.2.1")
    assert shown["content"]["digest"] == README_DIGEST
    assert chart.read_bytes() == base64.b64decode(json.loads(pushed)["blob"])
    assert hashlib.sha256(gzip.decompress(chart.read_bytes())).hexdigest() == README_DIGEST
