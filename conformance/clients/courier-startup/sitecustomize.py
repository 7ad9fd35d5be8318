# ruff: noqa: INP001 -- a folder for PYTHONPATH, not a package
"""Python imports this at start: operator-courier's built-in server becomes that of the test."""

from __future__ import annotations

import os

import requests

_BUILT_IN = "https://quay.io"
_send = requests.Session.request


def _redirected(
    self: requests.Session, method: str, url: str, *rest: object, **more: object
) -> requests.Response:
    target = url.replace(_BUILT_IN, os.environ["OPERATOR_COURIER_URL"], 1)
    return _send(self, method, target, *rest, **more)


requests.Session.request = _redirected
