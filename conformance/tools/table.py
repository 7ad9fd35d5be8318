"""The tools that the conformance tests need: one table, and how each kind is found and installed.

What is built here lies under ``$OCIAPPR_TOOLS`` (by default ``ociappr/tools`` in the user's cache),
one folder for each tool and version; the file ``.done`` in it is written last.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

HERE = Path(__file__).parent
INSTALLER = "python conformance/tools/install.py"
SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
UNNEEDED = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def cache() -> Path:
    """Return the folder of everything that is built here."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("OCIAPPR_TOOLS") or user / "ociappr" / "tools")


class Tool(Protocol):
    """One program that tests run."""

    def find(self) -> Path | None:
        """Return the program's absolute path, or nothing when it is not installed."""

    def hint(self) -> str:
        """Return the command that installs it."""

    def install(self) -> None:
        """Install it where it is missing; raise `CalledProcessError` when that fails."""


@dataclass(frozen=True, slots=True)
class Go:
    """A program that ``go`` builds from a module; `own_module` for those ``go install`` refuses."""

    name: str
    version: str
    package: str
    own_module: bool = False

    @property
    def folder(self) -> Path:
        """Where it is built."""
        return cache() / f"{self.name}-{self.version}"

    def find(self) -> Path | None:
        """Return the program's path once its build has ended."""
        return _done(self.folder, self.package.rpartition("/")[2])

    def hint(self) -> str:
        """Return the command that installs it."""
        return f"{INSTALLER} {self.name}"

    def install(self) -> None:
        """Build it with ``go install``, or inside an empty module."""
        self.folder.mkdir(parents=True, exist_ok=True)
        env = os.environ | {"CGO_ENABLED": "0", "GOBIN": str(self.folder)}
        source = f"{self.package}@{self.version}"
        if self.own_module:
            with tempfile.TemporaryDirectory() as empty:
                _call("go", "mod", "init", "tools", cwd=empty, env=env)
                _call("go", "get", "-tool", source, cwd=empty, env=env)
                _call("go", "install", self.package, cwd=empty, env=env)
        else:
            _call("go", "install", source, env=env)
        (self.folder / ".done").touch()


@dataclass(frozen=True, slots=True)
class Pip:
    """A Python program in a virtual environment of its own, from the pins in ``<name>.txt``.

    The folder `startup` holds a ``sitecustomize.py`` that the program needs: the environment
    imports it whenever Python starts.
    """

    name: str
    version: str
    program: str
    startup: str = ""

    @property
    def folder(self) -> Path:
        """The virtual environment."""
        return cache() / f"{self.name}-{self.version}"

    def find(self) -> Path | None:
        """Return the program's path once its environment is complete."""
        return _done(self.folder, f"bin/{self.program}")

    def hint(self) -> str:
        """Return the command that installs it."""
        return f"{INSTALLER} {self.name}"

    def install(self) -> None:
        """Make the environment anew."""
        _call(sys.executable, "-m", "venv", "--clear", str(self.folder))
        python = str(self.folder / "bin" / "python")
        pip = (python, "-m", "pip", "install", "--quiet", "--no-deps")
        _call(*pip, "--requirement", str(HERE / f"{self.name}.txt"))
        if self.startup:
            (packages,) = self.folder.glob("lib/python*/site-packages")
            shutil.copy(HERE / self.startup / "sitecustomize.py", packages / "startup.py")
            (packages / "startup.pth").write_text("import startup\n")
        (self.folder / ".done").touch()


@dataclass(frozen=True, slots=True)
class OldPip:
    """Packages for Python 2.7, from the pins in ``<name>.txt``, and a ``python`` that has them."""

    name: str
    version: str

    @property
    def folder(self) -> Path:
        """Where the packages lie."""
        return cache() / f"{self.name}-{self.version}"

    def find(self) -> Path | None:
        """Return the path of the Python that finds the packages, once all are there."""
        return _done(self.folder, "python")

    def hint(self) -> str:
        """Return the commands that install it."""
        return f"pyenv install 2.7.18 && {INSTALLER} {self.name}"

    def install(self) -> None:
        """Install the packages; raise `FileNotFoundError` where there is no Python 2.7."""
        python = _python_2()
        if python is None:
            raise FileNotFoundError(f"no Python 2.7 with pip: {self.hint()}")
        shutil.rmtree(self.folder, ignore_errors=True)
        pip = (python, "-m", "pip", "install", "--quiet", "--no-deps")
        requirements = str(HERE / f"{self.name}.txt")
        _call(*pip, "--target", str(self.folder / "packages"), "--requirement", requirements)
        script = f'#!/bin/sh\nPYTHONPATH="{self.folder}/packages" exec "{python}" "$@"\n'
        (self.folder / "python").write_text(script)
        (self.folder / "python").chmod(0o755)
        (self.folder / ".done").touch()


@dataclass(frozen=True, slots=True)
class Apt:
    """A program of a Debian package."""

    package: str
    program: str

    def find(self) -> Path | None:
        """Return the program's path."""
        found = shutil.which(self.program, path=SYSTEM_PATH)
        return Path(found) if found else None

    def hint(self) -> str:
        """Return the command that installs it."""
        return f"apt-get install {self.package}"

    def install(self) -> None:
        """Install the package, as root or through sudo."""
        _update_package_lists()
        _apt_get("install", "--yes", self.package)


@dataclass(frozen=True, slots=True)
class Postgres:
    """PostgreSQL of Debian, whose programs lie below a folder of their version."""

    def find(self) -> Path | None:
        """Return the server's path; ``initdb`` lies beside it."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        return found[-1] if found else None

    def hint(self) -> str:
        """Return the command that installs it."""
        return "apt-get install postgresql"

    def install(self) -> None:
        """Install the package, without the cluster that Debian makes with it."""
        common = Path("/etc/postgresql-common/createcluster.conf")
        if not common.exists():
            common.parent.mkdir(parents=True, exist_ok=True)
            common.write_text("create_main_cluster = false\n")
        Apt("postgresql", "postgres").install()


@dataclass(frozen=True, slots=True)
class Root:
    """A root file system of Debian with Python, packed as ``base.tar`` for ``docker import``."""

    name: str
    suite: str
    packages: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where the archive lies."""
        return cache() / f"{self.name}-{self.suite}"

    def find(self) -> Path | None:
        """Return the archive's path once it is complete."""
        return _done(self.folder, "base.tar")

    def hint(self) -> str:
        """Return the command that makes it."""
        return f"{INSTALLER} {self.name}"

    def install(self) -> None:
        """Run debootstrap and add the certificates that this machine trusts."""
        debootstrap = TOOLS["debootstrap"].find()
        if debootstrap is None:
            TOOLS["debootstrap"].install()
        self.folder.mkdir(parents=True, exist_ok=True)
        packages = f"--include={','.join(self.packages)}"
        archive = str(self.folder / "base.tar")
        with tempfile.TemporaryDirectory() as root:
            _call("debootstrap", "--variant=minbase", packages, self.suite, root)
            shutil.copy(CERTIFICATES, root + str(CERTIFICATES))
            Path(root).chmod(0o755)  # it becomes the container's "/", which all users must enter
            unneeded = [f"--exclude=./{path}/*" for path in UNNEEDED]
            _call("tar", "-c", "-f", archive, *unneeded, "-C", root, ".")
        (self.folder / ".done").touch()


@functools.cache
def _update_package_lists() -> None:
    _apt_get("update")


def _apt_get(*arguments: str) -> None:
    prefix = () if os.geteuid() == 0 else ("sudo",)
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    _call(*prefix, "apt-get", "--quiet=2", *arguments, env=env)


def _python_2() -> str | None:
    """Return a Python 2.7: of pyenv (its shims serve only what is switched on), or the system's."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [str(path) for path in sorted(root.glob("versions/2.7*/bin/python2.7"), reverse=True)]
    return found[0] if found else shutil.which("python2.7", path="/usr/local/bin:/usr/bin")


def _done(folder: Path, program: str) -> Path | None:
    return folder / program if (folder / ".done").exists() else None


def _call(*argv: str, cwd: str | None = None, env: Mapping[str, str] | None = None) -> None:
    """Run a command with its output kept in the exception that a failure raises."""
    subprocess.run(
        argv,
        cwd=cwd,
        env=dict(env or os.environ) | {"PATH": SYSTEM_PATH},
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


HELM_3 = "helm.sh/helm/v3/cmd/helm"
REGCLIENT = "github.com/regclient/regclient/cmd"
BUILDKIT = "github.com/moby/buildkit/cmd"

TOOLS: Mapping[str, Tool] = {
    "conformance": Go(
        "conformance",
        "v0.0.0-20260831232431-97274622c111",
        "github.com/opencontainers/distribution-spec/conformance",
    ),
    "registry": Go(
        "distribution", "v3.0.0", "github.com/distribution/distribution/v3/cmd/registry"
    ),
    "oras": Go("oras", "v1.3.6", "oras.land/oras/cmd/oras"),
    "crane": Go("crane", "v0.22.1", "github.com/google/go-containerregistry/cmd/crane"),
    "regctl": Go("regctl", "v0.11.1", f"{REGCLIENT}/regctl"),
    "regsync": Go("regsync", "v0.11.1", f"{REGCLIENT}/regsync"),
    "helm-3.18": Go("helm", "v3.18.4", HELM_3),
    "helm-3.22": Go("helm", "v3.22.0", HELM_3),
    "helm-4.3": Go("helm", "v4.3.1", "helm.sh/helm/v4/cmd/helm"),
    "cosign": Go("cosign", "v3.1.3", "github.com/sigstore/cosign/v3/cmd/cosign"),
    "buildctl": Go("buildctl", "v0.34.2", f"{BUILDKIT}/buildctl", own_module=True),
    "buildkitd": Go("buildkitd", "v0.34.2", f"{BUILDKIT}/buildkitd", own_module=True),
    "oras-py": Pip("oras-py", "0.2.43", "python"),
    "appr": Pip("appr", "0.7.4", "appr", startup="appr_shim"),
    "operator-courier": Pip("operator-courier", "2.1.11", "operator-courier"),
    "appr-server": OldPip("appr-server", "0.7.4"),
    "versitygw": Go("versitygw", "v1.8.0", "github.com/versity/versitygw/cmd/versitygw"),
    "minio": Go("minio", "v0.0.0-20250907161309-07c3a429bfed", "github.com/minio/minio"),
    "postgres": Postgres(),
    "redis-server": Apt("redis-server", "redis-server"),
    "etcd": Apt("etcd-server", "etcd"),
    "wrk": Apt("wrk", "wrk"),
    "nginx": Apt("nginx-light", "nginx"),
    "docker": Apt("docker.io", "docker"),
    "dockerd": Apt("docker.io", "dockerd"),
    "podman": Apt("podman", "podman"),
    "runc": Apt("runc", "runc"),
    "buildah": Apt("buildah", "buildah"),
    "skopeo": Apt("skopeo", "skopeo"),
    "umoci": Apt("umoci", "umoci"),
    "containerd": Apt("containerd", "containerd"),
    "ctr": Apt("containerd", "ctr"),
    "debootstrap": Apt("debootstrap", "debootstrap"),
    "base-image": Root("base-image", "bookworm", ("python3", "python3-venv", "ca-certificates")),
}


def find(name: str) -> Path | None:
    """Return the path of the tool with this name, or nothing when it is not installed."""
    return TOOLS[name].find()
