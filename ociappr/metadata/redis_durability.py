"""What a Redis server would lose: its settings, as far as it tells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ociappr.metadata.redis_connections import Connections

_CURE = (
    "set `appendonly yes`, `appendfsync always` and `no-appendfsync-on-rewrite no`"
    " in its configuration"
)


async def settings(connections: Connections) -> dict[str, str]:
    """Return the settings that matter here; those that the server tells nobody are missing."""
    configured: dict[str, str] = {}
    for pattern in ("*append*", "maxmemory-policy"):
        told = await connections.ask_if_allowed("CONFIG", "GET", pattern) or []
        texts = [text.decode() for text in told]
        configured |= dict(zip(texts[::2], texts[1::2], strict=True))
    return configured or _from_report(await connections.ask_if_allowed("INFO") or b"")


def _from_report(report: bytes) -> dict[str, str]:
    """Return the settings that a server's report names."""
    lines = report.decode(errors="replace").splitlines()
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    found = {}
    if "maxmemory_policy" in told:
        found["maxmemory-policy"] = told["maxmemory_policy"]
    if "aof_enabled" in told:
        found["appendonly"] = "yes" if told["aof_enabled"] == "1" else "no"
    return found


def evicts(told: Mapping[str, str]) -> bool:
    """Tell whether the server would remove keys without an expiry, as ours are, to make room."""
    return told.get("maxmemory-policy", "").startswith("allkeys-")


def losses(told: Mapping[str, str]) -> Iterator[str]:
    """Yield what may be lost, each with what to do about it."""
    if "maxmemory-policy" not in told:
        yield (
            "does not tell its maxmemory-policy: should that be one of allkeys-*, metadata are"
            " deleted when memory is short. See that it is `noeviction`"
        )
    if told.get("appendonly") == "no":
        yield (
            "keeps no append-only file: when it stops or crashes, all pushes since its last"
            f" snapshot are lost, although they were acknowledged. To keep them, {_CURE}"
        )
    elif "appendfsync" not in told:
        yield (
            "does not tell how it keeps what was acknowledged: unless it syncs every write,"
            f" a crash loses the last pushes. If you can, {_CURE}"
        )
    elif told["appendfsync"] != "always":
        span = "second or two" if told["appendfsync"] == "everysec" else "half a minute"
        yield (
            f"has appendfsync {told['appendfsync']}: when its machine fails, pushes of the last"
            f" {span} may be lost, although they were acknowledged. To keep them, {_CURE}"
        )
    elif told.get("no-appendfsync-on-rewrite") == "yes":
        yield (
            "does not sync while it rewrites its file: when its machine fails then, acknowledged"
            f" pushes of that time may be lost. To keep them, {_CURE}"
        )
