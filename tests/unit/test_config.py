from __future__ import annotations

import json
import re
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ociappr
from ociappr import stores
from ociappr.config import Config, ConfigError, Duration, Size, fields, load, written
from ociappr.names import RepositoryName, Tag
from ociappr.registry.patterns import TagPattern
from ociappr.registry.rules import ImmutableRule, Order, RetentionRule
from ociappr.registry.settings import Settings, Sparse
from ociappr.server import settings

SOURCES = Path(ociappr.__file__).parent


def from_yaml(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "conf.yaml"
    file.write_text(text)
    return load(file=file).config


def test_later_sources_win_and_origins_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "conf.yaml"
    file.write_text("server: {listen: '127.0.0.1:1', workers: 2, drain: 1m}\nlog: {level: debug}\n")
    environ = {"OCIAPPR_SERVER__LISTEN": "127.0.0.1:2", "OCIAPPR_LOG__LEVEL": "error", "PATH": "/"}
    loaded = load(file=file, environ=environ, flags={"server.listen": "127.0.0.1:3"})
    found = {one.key: (one.value, one.origin) for one in loaded.settings()}
    assert list(found) == list(fields())
    assert found["server.listen"] == ("127.0.0.1:3", "command line")
    assert found["log.level"] == ("error", "environment")
    assert found["server.workers"] == (2, str(file))
    assert found["server.drain"] == (Duration(minutes=1), str(file))
    assert found["server.stall"] == (Duration(minutes=1), "default")


def test_text_from_the_environment_becomes_what_the_setting_is() -> None:
    config = load(
        environ={
            "OCIAPPR_SERVER__WORKERS": "3",
            "OCIAPPR_LOG__ACCESS": "false",
            "OCIAPPR_STORAGE__THREADED": "1",
            "OCIAPPR_MANIFESTS__SPARSE": "all",
            "OCIAPPR_APPR__BODY": "1 GiB",
        }
    ).config
    assert config.server.workers == 3
    assert config.log.access is False
    assert config.storage.threaded is True
    assert config.manifests.sparse is Sparse.ALL
    assert config.appr.body == 1024**3


def test_sections_may_lie_in_sections(tmp_path: Path) -> None:
    text = "storage: {url: 's3://b/p', s3: {endpoint: 'http://a:1', redirect: never}}\n"
    assert from_yaml(tmp_path, text).storage.s3.redirect == "never"
    environ = {"OCIAPPR_STORAGE__S3__ENDPOINT": "https://a", "OCIAPPR_STORAGE__S3__REGION": "x"}
    config = load(environ=environ).config
    assert (config.storage.s3.endpoint, config.storage.s3.region) == ("https://a", "x")
    with pytest.raises(ConfigError, match=r"storage\.s3: is a section"):
        from_yaml(tmp_path, "storage: {s3: 5}")
    with pytest.raises(ConfigError, match=r"storage\.s3\.secret: .*did you mean storage\.s3\.sec"):
        from_yaml(tmp_path, "storage: {s3: {secret: x}}")


async def test_without_its_extra_s3_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ociappr.blobstore.s3", None)
    with pytest.raises(ConfigError, match=r"pip install 'ociappr\[s3\]'"):
        await stores.open_blobs(load(flags={"storage.url": "s3://bucket"}).config)


@pytest.mark.parametrize(
    ("url", "bucket", "prefix"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://bucket/a/b/", "bucket", "a/b/"),
        ("s3://bucket/a%20b", "bucket", "a b/"),
    ],
)
def test_a_bucket_and_a_prefix(url: str, bucket: str, prefix: str) -> None:
    assert stores._bucket(url) == (bucket, prefix)


@pytest.mark.parametrize("text", ["", "# nothing\n", "server:\nlog:\n", "{}", "storage:\n  s3:\n"])
def test_a_file_may_say_nothing(tmp_path: Path, text: str) -> None:
    assert from_yaml(tmp_path, text) == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sever: {listen: x}", "sever.listen: there is no such setting; did you mean server.list"),
        ("server: {port: 1}", "server.port: there is no such setting"),
        ("server.listen: 127.0.0.1:1", "server.listen: there is no such setting"),
        ("5: x", "5: there is no such setting"),
        ("data: {x: 1}", "data.x: there is no such setting"),
        ("server: 5", "server: is a section"),
        ("server: [a]", "server: is a section"),
        ("data:", "data: None is not a text"),
        ("data: 5", "data: 5 is not a text"),
        ("server: {workers: '2'}", "server.workers: '2' is not a whole number"),
        ("server: {workers: 2.5}", "server.workers: 2.5 is not a whole number"),
        ("server: {workers: true}", "server.workers: True is not a whole number"),
        ("log: {access: 'yes'}", "log.access: 'yes' is not true or false"),
        ("log: {access: 1}", "log.access: 1 is not true or false"),
        ("log: {level: loud}", "log.level: 'loud' is not debug, info, warning, error"),
        ("manifests: {sparse: some}", "manifests.sparse: 'some' is not none, indexes, all"),
        ("server: {drain: 5}", "server.drain: a duration ends in one of ms, s, m, h, d"),
        ("server: {drain: 5w}", "this ends in 'w'"),
        ("server: {drain: -5s}", "server.drain: '-5s' is no number with a unit, like 15m"),
        ("server: {drain: 1.5h}", "server.drain: '1.5h' is no number"),
        ("server: {drain: true}", "server.drain: True is no number"),
        ("server: {drain: 99999999999999999d}", "server.drain: so long a time cannot be"),
        ("appr: {body: 5MB}", "appr.body: a size ends in one of B, KiB, MiB, GiB, TiB"),
        ("appr: {body: -1}", "appr.body: -1 is no number"),
        ("appr: {body: 1.5}", "appr.body: 1.5 is no number"),
        ("appr: {body: [1]}", r"appr.body: \[1\] is no number"),
        ("log: {level: info, level: debug}", "log.level: stands twice"),
        ("data: a\nserver: {}\ndata: b", "data: stands twice"),
        ("[a, b]", "the top level is no mapping"),
        ("text", "the top level is no mapping"),
        ("server: {", "is no YAML: .*line 1"),
        ("a: 1\n---\nb: 2", "is no YAML"),
        ("server: !!python/object:os.system {}", "is no YAML"),
        ("data: \x01", "is no YAML"),
        ("retention:", "retention: None is no list"),
        ("retention: {a: 1}", "retention.a: there is no such setting"),
        ("retention: [5]", r"retention\[0\]: 5 is no mapping"),
        (
            "retention: [{}, {keep_newst: 1}]",
            r"retention\[1\].keep_newst: there is no such setting",
        ),
        ("retention: [{keep_newst: 1}]", r"did you mean retention\[0\].keep_newest\?"),
        ("retention: [{keep_newest: '5'}]", r"retention\[0\].keep_newest: '5' is not a whole num"),
        ("retention: [{keep_newest: 0}]", r"retention\[0\]: keep_newest is 1 at least"),
        ("retention: [{order: age}]", r"retention\[0\].order: 'age' is not pushed, semver"),
        ("retention: [{tags: v*}]", r"retention\[0\].tags: 'v\*' is no list"),
        ("retention: [{tags: [a, 5]}]", r"retention\[0\].tags\[1\]: 5 is not a text"),
        ("retention: [{tags: [/(/]}]", r"retention\[0\].tags\[0\]: '/\(/' is no regular express"),
        ("retention: [{keep_versions: x}]", r"retention\[0\].keep_versions: 'x' is no range"),
        ("retention: [{keep_pulled_within: 5}]", r"retention\[0\].keep_pulled_within: a duration"),
        ("retention: [{order: pushed, order: semver}]", r"retention\[0\].order: stands twice"),
        ("immutable: [{}]", r"immutable\[0\]: says neither tags nor versions"),
    ],
)
def test_what_a_file_cannot_say(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        from_yaml(tmp_path, text)
    assert "conf.yaml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_text_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "conf.yaml"
    with pytest.raises(ConfigError, match=r"cannot read .*conf.yaml: No such file"):
        load(file=file)
    file.write_bytes(b"data: \xff")
    with pytest.raises(ConfigError, match="is no YAML"):
        load(file=file)


def test_rules_are_read_from_a_file_or_as_json(tmp_path: Path) -> None:
    text = """
        retention:
          - {repositories: ["ci/**"], tags: ["pr-*"], keep_pushed_within: 7d}
          - {order: semver, keep_newest: 5, keep_versions: ">=1.0", delete_untagged_after: 0s}
        immutable: [{tags: ["/v[0-9]+/"]}]
    """
    config = from_yaml(tmp_path, text)
    pull_requests, versions = config.retention
    assert pull_requests.is_about(RepositoryName("ci/a/b"), Tag("pr-5"))
    assert pull_requests.keep_pushed_within == timedelta(days=7)
    assert (versions.keep_newest, versions.order) == (5, Order.SEMVER)
    assert versions.delete_untagged_after == timedelta(0)
    as_json = {
        f"OCIAPPR_{name.upper()}": json.dumps([written(rule) for rule in rules])
        for name, rules in (("retention", config.retention), ("immutable", config.immutable))
    }
    assert load(environ=as_json).config == config


def test_rules_in_the_environment_that_are_no_json() -> None:
    with pytest.raises(ConfigError, match=r"^retention: 'keep' is no list \(from environment\)"):
        load(environ={"OCIAPPR_RETENTION": "keep"})


def test_an_unknown_variable_is_named_as_it_was_written() -> None:
    expected = "OCIAPPR_SERVER_LISTEN: .*did you mean OCIAPPR_SERVER__LISTEN"
    with pytest.raises(ConfigError, match=expected):
        load(environ={"OCIAPPR_SERVER_LISTEN": "127.0.0.1:1"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data", ""),
        ("server.workers", "0"),
        ("server.workers", "129"),
        ("server.stall", "0s"),
        ("server.keepalive", "0s"),
        ("manifests.limit", "3MiB"),
        ("appr.body", "0"),
        ("appr.unpacked", "0"),
        ("appr.decodes", "0"),
        ("collector.interval", "0s"),
        ("collector.sessions", "0s"),
        ("collector.rate", "-1"),
        ("limits.uploads", "0"),
        ("limits.inline", "1MiB"),
        ("storage.s3.endpoint", "127.0.0.1:9000"),
        ("storage.s3.endpoint", "http://"),
        ("storage.s3.endpoint", "http://a:x"),
        ("storage.s3.public_endpoint", "s3.example"),
        ("storage.s3.access_key", "only"),
        ("storage.s3.kms_key", "without-kms"),
        *(
            ("server.listen", listen)
            for listen in ("", "5000", "host", "host:", "host:x", "host:65536", "::1:5000", "h:²")
        ),
    ],
)
def test_what_is_well_formed_but_cannot_be(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: "):
        load(flags={key: value})


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:5000", ("::1", 5000)),
        (":5000", ("", 5000)),
        ("registry.example:65535", ("registry.example", 65535)),
    ],
)
def test_addresses(listen: str, address: tuple[str, int]) -> None:
    assert load(flags={"server.listen": listen}).config.address == address


def test_the_default_stores_lie_below_the_data_directory(tmp_path: Path) -> None:
    config = load(flags={"data": str(tmp_path / "a b?#%20")}).config
    assert config.metadata_url == f"sqlite://{tmp_path}/a%20b%3F%23%2520/metadata.db"
    assert config.storage_url == f"file://{tmp_path}/a%20b%3F%23%2520/blobs"


async def test_a_data_directory_of_any_name_is_used(tmp_path: Path) -> None:
    directory = tmp_path / "a b?#%20"
    metadata = await stores.open_metadata(load(flags={"data": str(directory)}).config)
    await metadata.close()
    assert (directory / "metadata.db").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"metadata.url": "oracle:///x"}, "metadata.url: .* sqlite://, memory://"),
        ({"metadata.url": "/var/metadata.db"}, "metadata.url: "),
        ({"storage.url": "sqlite:///x"}, "storage.url: .* file://, memory://"),
        ({"metadata.url": "sqlite://x/y"}, "metadata.url: .*sqlite:///absolute/path"),
        ({"metadata.url": "sqlite:///"}, "metadata.url: .*sqlite:///absolute/path"),
        ({"storage.url": "file://blobs"}, "storage.url: .*file:///absolute/path"),
        ({"storage.url": "file:///x?mode=ro"}, "storage.url: .*file:///absolute/path"),
        ({"storage.url": "file:///x#y"}, "storage.url: .*file:///absolute/path"),
        ({"storage.url": "s3:///prefix"}, "storage.url: .*s3://bucket/prefix"),
        ({"storage.url": "s3://key:secret@bucket"}, r"storage.url: .*key:\*\*\*@bucket"),
        ({"storage.url": "s3://bucket?region=x"}, "storage.url: .*s3://bucket/prefix"),
        (
            {"metadata.url": "memory://", "server.workers": "2"},
            "metadata.url: several workers cannot share memory",
        ),
        (
            {"storage.url": "memory://", "server.workers": "2"},
            "storage.url: several workers cannot share memory",
        ),
    ],
)
def test_urls_that_no_driver_takes(flags: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stores.check(load(flags=flags).config)


def test_one_worker_may_use_memory() -> None:
    stores.check(load(flags={"metadata.url": "memory://", "storage.url": "memory://"}).config)


@given(st.integers(0, 10**15))
def test_a_size_reads_as_it_is_spelled(number: int) -> None:
    assert Size.parse(str(Size(number))) == number
    assert Size.parse(number) == Size.parse(str(number)) == number


@given(st.integers(0, 10**12))
def test_a_duration_reads_as_it_is_spelled(milliseconds: int) -> None:
    duration = Duration(milliseconds=milliseconds)
    assert Duration.parse(str(duration)) == duration


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Size(0), "0B"),
        (Size(1023), "1023B"),
        (Size(64 * 1024**2), "64MiB"),
        (Size(1024**5), "1024TiB"),
        (Duration(0), "0ms"),
        (Duration(milliseconds=1001), "1001ms"),
        (Duration(seconds=90), "90s"),
        (Duration(hours=24), "1d"),
        (Duration(hours=25), "25h"),
    ],
)
def test_the_shortest_spelling_is_shown(value: Size | Duration, text: str) -> None:
    assert str(value) == text


@given(st.text() | st.integers() | st.floats() | st.none() | st.booleans())
def test_a_quantity_is_read_or_refused(value: object) -> None:
    for kind in (Size, Duration):
        try:
            read = kind.parse(value)
        except ValueError:
            continue
        assert kind.parse(str(read)) == read


def test_every_setting_is_read_somewhere() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))
    unread = [
        key for key in fields() if not re.search(rf"\b(config|self|c)\.{re.escape(key)}\b", code)
    ]
    assert not unread


def test_the_core_gets_each_setting_that_it_has() -> None:
    flags = {
        "manifests.sparse": "none",
        "manifests.limit": "5MiB",
        "manifests.cache": "1MiB",
        "limits.inline": "1KiB",
        "limits.uploads": "7",
        "appr.unpacked": "2MiB",
        "collector.grace": "1s",
        "collector.sessions": "2s",
        "collector.journal": "3s",
        "collector.rate": "8",
        "retention": '[{"keep_newest": 1}]',
        "immutable": '[{"tags": ["v*"]}]',
    }
    assert settings(load(flags=flags).config) == Settings(
        sparse=Sparse.NONE,
        manifest_limit=5 * 1024**2,
        cache_bytes=1024**2,
        inline_limit=1024,
        open_uploads=7,
        unpacked_limit=2 * 1024**2,
        grace=timedelta(seconds=1),
        session_age=timedelta(seconds=2),
        journal_age=timedelta(seconds=3),
        rate=8,
        retention=(RetentionRule(keep_newest=1),),
        immutable=(ImmutableRule(tags=(TagPattern("v*"),)),),
    )


def test_the_core_has_the_same_defaults() -> None:
    assert settings(Config()) == Settings()


def test_a_secret_is_read_from_a_file_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    loaded = load(environ={"OCIAPPR_METADATA__PASSWORD_FILE": str(tmp_path / "password")})
    assert loaded.config.metadata.password.reveal() == "s3cret"
    assert "s3cret" not in repr(loaded.config)
    found = {one.key: (str(one.value), one.origin) for one in loaded.settings()}
    assert found["metadata.password"] == ("***", "environment")


def test_a_secret_whose_file_is_absent(tmp_path: Path) -> None:
    environ = {"OCIAPPR_METADATA__PASSWORD_FILE": str(tmp_path / "none")}
    with pytest.raises(ConfigError, match=r"metadata\.password_file: cannot read .*none"):
        load(environ=environ)


def test_only_secrets_have_files() -> None:
    with pytest.raises(ConfigError, match="METADATA__URL_FILE: there is no such setting"):
        load(environ={"OCIAPPR_METADATA__URL_FILE": "x"})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p%40w@h:5/d", "postgresql://u:***@h:5/d"),
        ("redis://:p@h/0", "redis://:***@h/0"),
        ("etcd://u@h:1", "etcd://u@h:1"),
        ("sqlite:///a@b:c", "sqlite:///a@b:c"),
    ],
)
def test_a_password_in_a_url_is_not_shown(url: str, expected: str) -> None:
    loaded = load(flags={"metadata.url": url})
    found = {one.key: one.value for one in loaded.settings()}
    assert found["metadata.url"] == expected


@pytest.mark.parametrize(
    ("url", "limit"), [("redis://h", 0), ("etcds://h", 0), ("postgresql://h/d", 16384)]
)
def test_what_keeps_all_in_memory_gets_no_small_blobs_by_default(url: str, limit: int) -> None:
    flags = {"metadata.url": url}
    assert load(flags=flags).config.inline == limit
    assert load(flags=flags | {"limits.inline": "1KiB"}).config.inline == 1024
