"""Whose request it is when a proxy passes it on: the address in ``X-Forwarded-For``, or not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network


class TrustedProxies:
    """The networks whose word about the client's address counts; nobody else's does."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network] = ()) -> None:
        self._networks = tuple(networks)
        self._trusts = lru_cache(maxsize=1024)(self._contains)

    @classmethod
    def parse(cls, text: str) -> TrustedProxies:
        """Return the proxies of a list like ``10.0.0.0/8, ::1``; raise `ValueError`."""
        return cls([ip_network(one.strip()) for one in text.split(",") if one.strip()])

    def client(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """Return who asked *peer*, which is connected to us, as the header lines tell.

        The list is read from its end, where each proxy adds whom it saw: the first address that is
        no trusted proxy is the client. What stands before it is the client's own invention.
        """
        client = peer
        hops = [hop.strip() for line in forwarded_for for hop in line.split(",")]
        while hops and self._trusts(client):
            hop = hops.pop()
            if not _is_address(hop):
                break
            client = hop
        return client

    def _contains(self, text: str) -> bool:
        if not self._networks or not _is_address(text):
            return False
        address = ip_address(text)
        return any(address in network for network in self._networks)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
