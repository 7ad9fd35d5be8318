"""Helm configs from Chart.yaml: frozen bytes, and what is no chart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociappr.registry.charts import config_of

WHOLE = b"""
apiVersion: v2
name: web
version: 1.2.3
appVersion: 1.10
kubeVersion: ">=1.20"
type: application
deprecated: true
description: |
  two
  lines
keywords: [a, b]
home: https://example.org
sources: [https://example.org/src]
maintainers:
- {name: Ann, email: ann@example.org, extra: dropped}
annotations: {built: 2024-01-01, count: 3}
dependencies:
- name: db
  version: ~1
  repository: https://example.org/charts
  enabled: false
  tags: [x]
  import-values: [data, {child: a, parent: b}]
icon: null
unknown: {field: 1}
"""

CONFIG = (
    '{"annotations":{"built":"2024-01-01","count":"3"},"apiVersion":"v2","appVersion":"1.10",'
    '"dependencies":[{"enabled":false,"import-values":["data",{"child":"a","parent":"b"}],'
    '"name":"db","repository":"https://example.org/charts","tags":["x"],"version":"~1"}],'
    '"deprecated":true,"description":"two\\nlines\\n","home":"https://example.org",'
    '"keywords":["a","b"],"kubeVersion":">=1.20",'
    '"maintainers":[{"email":"ann@example.org","name":"Ann"}],"name":"web",'
    '"sources":["https://example.org/src"],"type":"application","version":"1.2.3"}'
)


def test_every_field_that_helm_knows_is_kept_in_its_type() -> None:
    assert config_of(WHOLE) == CONFIG.encode()


def test_the_order_of_the_fields_does_not_matter() -> None:
    assert config_of(b"version: 1.0.0\nname: web\n") == config_of(b"name: web\nversion: '1.0.0'\n")


@pytest.mark.parametrize(
    "chart",
    [
        b"",
        b"just text",
        b"- name: web",
        b"name: web",
        b"version: 1.0.0",
        b"name: ''\nversion: 1.0.0",
        b"name: [web]\nversion: 1.0.0",
        b"name: web\nversion: 1.0.0\nmaintainers: Ann",
        b"name: web\nversion: 1.0.0\nmaintainers: [Ann]",
        b"name: web\nversion: 1.0.0\ndeprecated: maybe",
        b"name: web\nversion: 1.0.0\nannotations: {a: [1]}",
        b"name: web\nversion: 1.0.0\n? [a]\n: b",
        b"name: &x web\nversion: *x",
        b"name: web\nversion: 1.0.0\nhome: " + b"[" * 50 + b"]" * 50,
        b"name: web\nversion: 1.0.0\nhome: " + b"[" * 200_000,
        b"name: web\nversion: 1.0.0\n---\nname: two\nversion: 2.0.0",
        b"name: \xff",
        b"name: {unclosed",
        b"!!python/object/apply:os.system [id]",
    ],
)
def test_what_helm_would_not_load_is_no_chart(chart: bytes) -> None:
    assert config_of(chart) is None


@given(
    st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace"))
    )
)
def test_any_bytes_are_a_chart_or_none(chart: bytes) -> None:
    config_of(chart)
    config_of(b"name: web\nversion: 1.0.0\n" + chart)
