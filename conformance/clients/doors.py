"""Both doors of one repository: the appr client on one side, helm and oras on the other."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from conformance import wire
from conformance.clients.appr import API, Appr
from conformance.clients.charts import Chart
from conformance.conftest import Ran, Run, Server, Tool

HELMS: Final = ("helm-3.18", "helm-3.22", "helm-4.3")
COMPOSE: Final = "docker-compose"
"""The media type of the packages here that are no charts."""

_folders = itertools.count()


@dataclass(frozen=True, slots=True)
class Doors:
    """One repository, which is one package, and the clients that reach it."""

    run: Run
    tool: Tool
    server: Server
    repo: str
    folder: Path

    @property
    def name(self) -> str:
        """The last part of the repository's name, which a chart in it must have."""
        return self.repo.partition("/")[2]

    @property
    def reference(self) -> str:
        """The repository as OCI clients write it."""
        return f"{self.server.host}/{self.repo}"

    @property
    def appr(self) -> Appr:
        """The appr client for the package."""
        return Appr(self.run, self.tool("appr"), self.server, self.repo)

    def new_folder(self) -> Path:
        """Return an empty directory."""
        folder = self.folder / f"folder-{next(_folders)}"
        folder.mkdir()
        return folder

    def appr_push_chart(self, version: str, *words: str, greeting: str = "hello") -> bytes:
        """Push a chart with appr and return the archive that it made."""
        chart = Chart(self.name, version, greeting).unpack(self.new_folder())
        self.appr.push(chart, *words)
        return self.appr.blob(version, "helm")

    def appr_push_compose(self, version: str, *words: str, text: str = "services: {}\n") -> bytes:
        """Push a package of another type with appr and return the archive that it made."""
        folder = self.new_folder()
        (folder / "docker-compose.yml").write_text(text)
        self.appr.push(folder, "-t", COMPOSE, "-v", version, *words)
        return self.appr.blob(version, COMPOSE)

    def appr_pull(self, suffix: str, media_type: str) -> bytes:
        """Pull an archive with appr."""
        return self.appr.pull(suffix, media_type, self.new_folder() / "pulled")

    def helm_push(self, chart: Chart, helm: str = "helm-3.18", *, fails: bool = False) -> Ran:
        """Push a chart, which must be called as the package, with helm."""
        archive = chart.write(self.new_folder())
        here = f"oci://{self.server.host}/{self.repo.partition('/')[0]}"
        return self.run(self.tool(helm), "push", "--plain-http", archive, here, fails=fails)

    def helm_pull(self, helm: str, *words: str) -> tuple[str, bytes]:
        """Pull a chart with helm; return the name and the bytes of the file."""
        folder = self.new_folder()
        where = ("--plain-http", f"oci://{self.reference}")
        self.run(self.tool(helm), "pull", *where, *words, "--destination", folder)
        (path,) = folder.iterdir()
        return path.name, path.read_bytes()

    def oras(self, command: str, *words: str, cwd: Path | None = None, fails: bool = False) -> Ran:
        """Run a command of oras against the repository; a word ``:...`` or ``@...`` names it."""
        argv = [f"{self.reference}{x}" if x.startswith((":", "@")) else x for x in words]
        return self.run(
            self.tool("oras"), *command.split(), "--plain-http", *argv, cwd=cwd, fails=fails
        )

    def oras_pull(self, suffix: str) -> dict[str, bytes]:
        """Pull an artifact with oras; return its files."""
        folder = self.new_folder()
        self.oras("pull", suffix, "--output", str(folder))
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def manifest(self, reference: str) -> dict[str, Any]:
        """Return the manifest that a client of every media type gets."""
        parsed = json.loads(wire.get_manifest(self.server, self.repo, reference)[0])
        assert isinstance(parsed, dict)
        return parsed

    def digest(self, reference: str) -> str | None:
        """Return the digest behind a tag, or nothing when there is no such tag."""
        path = f"/v2/{self.repo}/manifests/{reference}"
        reply = wire.fetch(self.server, "HEAD", path, headers={"Accept": wire.MANIFESTS})
        if reply.status == HTTPStatus.NOT_FOUND:
            return None
        return wire.expect(reply, HTTPStatus.OK).headers["Docker-Content-Digest"]

    def tags(self) -> list[str]:
        """Return the tags that OCI clients see."""
        return wire.tags(self.server, self.repo)

    def releases(self) -> list[tuple[str, str]]:
        """Return release and media type of everything that appr clients see, sorted."""
        reply = wire.fetch(self.server, "GET", f"{API}/{self.repo}")
        if reply.status == HTTPStatus.NOT_FOUND:
            return []
        shown: Any = wire.expect(reply, HTTPStatus.OK).json()
        return sorted((x["release"], x["mediaType"].split(".")[3]) for x in shown)

    def channels(self) -> Mapping[str, str]:
        """Return every channel's name and current release."""
        reply = wire.fetch(self.server, "GET", f"{API}/{self.repo}/channels")
        shown: Any = wire.expect(reply, HTTPStatus.OK).json()
        return {x["name"]: x["current"] for x in shown}

    def put(self, reference: str, body: bytes, media_type: str, *statuses: int) -> wire.Reply:
        """Push manifest bytes; assert that the status is one of those given."""
        path = f"/v2/{self.repo}/manifests/{reference}"
        headers = {"Content-Type": media_type}
        return wire.expect(
            wire.fetch(self.server, "PUT", path, headers=headers, body=body), *statuses
        )


def error_codes(reply: wire.Reply) -> Sequence[str]:
    """Return the codes in the error body of an OCI reply."""
    body: Any = reply.json()
    return [error["code"] for error in body["errors"]]
