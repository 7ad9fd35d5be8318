"""URLs of PostgreSQL as they are understood before anything is connected."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

import pytest

from ociappr.config import ConfigError, load
from ociappr.metadata.postgres_address import Address
from ociappr.stores import open_metadata

HERE = "postgresql://user:hidden@db.example:5432/registry"


def test_the_place_is_told_without_the_password() -> None:
    address = Address.parse(HERE, ca_file="")
    assert address.place == "db.example:5432/registry, schema ociappr"
    assert address.schema == "ociappr"
    assert address.dsn == HERE


def test_what_is_ours_is_not_sent_to_the_server() -> None:
    address = Address.parse(f"{HERE}?schema=two&sslmode=require&host=%2Frun%2Fpg", ca_file="")
    assert address.schema == "two"
    assert address.tls == "require"
    assert address.dsn == f"{HERE}?host=%2Frun%2Fpg"


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_verification_trusts_the_system(mode: str) -> None:
    tls = Address.parse(f"{HERE}?sslmode={mode}", ca_file="").tls
    assert isinstance(tls, ssl.SSLContext)
    assert tls.verify_mode is ssl.CERT_REQUIRED
    assert tls.check_hostname == (mode == "verify-full")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("sslmod=require", r"\?sslmod= is none of schema, sslmode"),
        ("password=hidden", r"\?password= is none of"),
        ("sslmode=always", "sslmode 'always' is none of disable, allow"),
        ("schema=Registry", "schema 'Registry' is not made of a-z"),
        ("schema=pg_mine", "schema 'pg_mine'"),
        ("schema=", "schema ''"),
        ("sslmode=verify-full&sslcert=/absent.pem", "cannot read the certificates"),
    ],
)
def test_what_cannot_be(query: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Address.parse(f"{HERE}?{query}", ca_file="")
    assert "hidden" not in str(error.value)


def test_an_authority_that_would_not_be_asked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sslmode=prefer would not ask metadata\.ca_file"):
        Address.parse(f"{HERE}?sslmode=prefer", ca_file=str(tmp_path / "ca.pem"))


def test_an_authority_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read the certificates"):
        Address.parse(HERE, ca_file=str(tmp_path / "absent.pem"))


@pytest.mark.parametrize("password", ["a@hidden", "a/hidden", "a?hidden", "a#hidden"])
def test_a_password_that_was_not_encoded(password: str) -> None:
    with pytest.raises(ValueError, match="%40 %2F %3F %23") as error:
        Address.parse(HERE.replace("hidden", password), ca_file="")
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize("url", [f"{HERE}?schema=A", HERE.replace("5432", "port")])
async def test_a_bad_url_is_an_error_of_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match=r"metadata\.url: "):
        await open_metadata(load(flags={"metadata.url": url}).config)


async def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ociappr.metadata.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(ConfigError, match=r"asyncpg is not installed: pip install 'ociappr\[post"):
        await open_metadata(load(flags={"metadata.url": HERE}).config)
