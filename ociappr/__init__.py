"""An OCI Distribution registry with a second door: the App Registry (appr) API."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["__version__"]
