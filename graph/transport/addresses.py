"""Addresses: which of them only this machine can reach, whose word is believed, and what counts as one client."""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# Who has an IPv6 connection has at least 2**64 addresses of it (RFC 6177, RFC 7421).
CLIENT_PREFIX = 64
# IPv4 clients of a server that has IPv6 only (RFC 6052, section 2.1): all of them are in one /64.
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


def is_loopback(host: str) -> bool:
    """Whether a server that listens on a host name or address is out of reach for others."""
    if host == "localhost":
        return True
    address = parsed(host)
    return address is not None and address.is_loopback


def parsed(text: str) -> IPAddress | None:
    """An address, with an IPv4 address in IPv6 clothes as what it is; None for what is none.

    Also as proxies write it in `X-Forwarded-For`: with a port, in brackets, with the zone of a link.
    """
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in TRANSLATED:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


@lru_cache(maxsize=10_000)
def client_of(address: str) -> str:
    """What is counted as one client: an IPv4 address, or the /64 that an IPv6 address is in."""
    found = parsed(address)
    if found is None:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(found), CLIENT_PREFIX), strict=False))
    return str(found)


class Proxies:
    """The proxies whose `X-Forwarded-For` is believed: addresses and networks."""

    def __init__(self, networks: Sequence[IPNetwork] = ()) -> None:
        self._networks = networks

    @classmethod
    def of(cls, text: str) -> "Proxies":
        """Those of a comma-separated list (`TASKSTORE_TRUSTED_PROXIES`)."""
        return cls([ipaddress.ip_network(entry) for entry in filter(None, map(str.strip, text.split(",")))])

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: object) -> bool:
        if not self._networks or not isinstance(address, str) or (found := parsed(address)) is None:
            return False
        return any(found in network for network in self._networks)

    def client(self, peer: str, forwarded: Iterable[str]) -> str:
        """Who asks, by the peer of the connection and the values of `X-Forwarded-For`, as `client_of` has it.

        Each proxy appends who asked it, so the list is read from its end and no further than the trusted proxies go:
        what comes before was written by whoever asked. What is no address there is nobody's: the last proxy counts.
        """
        if peer not in self:
            return client_of(peer)
        for hop in reversed([hop for value in forwarded for hop in value.split(",") if hop.strip()]):
            if parsed(hop) is None:
                break
            peer = hop
            if peer not in self:
                break
        return client_of(peer)


# Names that nobody can point elsewhere: the addresses of the loopback network, and those of RFC 6761, section 6.3.
LOOPBACK_NAME = re.compile(r"127(\.\d{1,3}){3}|([a-z0-9_-]+\.)*localhost|\[::1\]")
ORIGIN = re.compile(r"https?://([^/@]+)")


class OwnNames:
    """The names under which a server with demo accounts is asked: those of its own machine, and further ones."""

    def __init__(self, further: str = "") -> None:
        """`further` is a comma-separated list, such as `host.docker.internal, 10.0.2.2`."""
        self._further = frozenset(filter(None, (name.strip().lower() for name in further.split(","))))

    def __contains__(self, authority: object) -> bool:
        """Whether a Host header, or the same part of a URL, with a port or without, has one of the names."""
        if not isinstance(authority, str):
            return False
        name, colon, port = authority.lower().rpartition(":")
        if not colon or port.endswith("]"):
            name = authority.lower()
        elif not (port.isascii() and port.isdecimal()):
            return False
        return name in self._further or LOOPBACK_NAME.fullmatch(name) is not None

    def page(self, origin: str) -> bool:
        """Whether an Origin header is that of a page under one of the names, on any port."""
        match = ORIGIN.fullmatch(origin)
        return match is not None and match[1] in self
