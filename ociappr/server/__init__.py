"""The server: settings become stores, a registry and both doors, and a process that serves them."""

from __future__ import annotations

from ociappr.server.composition import open_registry, open_stores, settings
from ociappr.server.running import BACKLOG, bind, serve

__all__ = ["BACKLOG", "bind", "open_registry", "open_stores", "serve", "settings"]
