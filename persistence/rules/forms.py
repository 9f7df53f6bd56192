"""The forms of settings.

Each returns the value as it is used, or raises `ValueError` with what it should be.
"""

import ipaddress
import re

HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?", re.IGNORECASE)
ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[^\s/:?#@\[\]]+)(:(?P<port>[0-9]{1,5}))?"
)
NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.ASCII | re.IGNORECASE)
PATH = re.compile(r"(/(?!\.{1,2}(/|$))[\w.~!$&'()*+,;=:@-]+)+", re.ASCII)
NUMERIC = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)\.?", re.ASCII | re.IGNORECASE)
"""Names that the system and browsers read as an IPv4 address, `0` and `127.1` too (WHATWG URL, "ends in a number")."""

INTEGER = re.compile(r"-?\d+", re.ASCII)
NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)

SHOWN = 60
"""Characters of a wrong value that are repeated."""

DEFAULT_PORTS = {"http": "80", "https": "443"}


def shown(text: str) -> str:
    """A wrong value in a line for a person: on one line, not too long, and without the password of a URL."""
    text = re.sub(r"//[^/?#]*@", "//...@", text)
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")


def one_line(text: str) -> str:
    """A text without control characters, line breaks and what is not Unicode: it ends up in lines and URLs."""
    if not text.isprintable():
        raise ValueError("one line of printable characters")
    return text


def integer(text: str) -> int:
    """A whole number in the digits 0 to 9."""
    if INTEGER.fullmatch(text) is None:
        raise ValueError(text)
    return int(text)


def number(text: str) -> float:
    """A number in the digits 0 to 9, with or without a fraction and an exponent."""
    if NUMBER.fullmatch(text) is None:
        raise ValueError(text)
    return float(text)


def host(text: str) -> str:
    """A host name or an address, without a scheme and a port."""
    if not is_address(text) and (len(text) > 253 or HOST.fullmatch(text) is None or NUMERIC.fullmatch(text)):
        raise ValueError(f"a host name or an address without a port, such as 127.0.0.1 or ::1, not {shown(text)}")
    return text if is_address(text) else text.lower()


def hosts(text: str) -> str:
    """Host names or addresses, separated by commas."""
    return ",".join(host(name) for name in listed(text))


def origins(text: str) -> str:
    """Origins as browsers send them (RFC 6454, section 6.2), separated by commas, or `*`."""
    return ",".join(origin(one) for one in listed(text))


def origin(text: str) -> str:
    match = ORIGIN.fullmatch(text)
    if text == "*":
        return text
    if match is None:
        stem = ORIGIN.match(text)
        hint = f"{stem[0][:SHOWN]} without what follows" if stem and "@" not in text else "https://app.example.org"
        raise ValueError(
            f"origins such as https://app.example.org or *, without a path or a slash: {hint}, not {shown(text)}"
        )
    scheme, name, port = match["scheme"], host_of_origin(match["host"]), match["port"]
    if name is None or not 0 < int(port or 80) <= 65_535:
        raise ValueError(f"origins such as https://app.example.org or http://localhost:5173, not {shown(text)}")
    sent = f"{scheme}://{name}" if port in (None, DEFAULT_PORTS.get(scheme)) else f"{scheme}://{name}:{int(port)}"
    sent = sent.lower()
    if sent != text:
        raise ValueError(f"origins as browsers send them: {sent[:SHOWN]}, not {shown(text)}")
    return text


def host_of_origin(name: str) -> str | None:
    """A host as browsers send it (WHATWG URL, "host serializing"): names with other letters as `xn--...`, addresses in
    one form. None where it can be none, as with a `*` in place of a label: origins are compared as a whole."""
    if name.startswith("["):
        return ipv6_host(name[1:-1])
    if not name.isascii():
        import idna  # seldom needed

        try:
            name = idna.encode(name, uts46=True).decode()
        except idna.IDNAError:
            return None
    if NUMERIC.fullmatch(name):
        return ipv4_host(name)
    return name if NAME.fullmatch(name) else None


def ipv4_host(name: str) -> str | None:
    """An IPv4 address with four decimal parts, of which there may be fewer, octal and hexadecimal ones."""
    import socket  # seldom needed

    try:
        return socket.inet_ntoa(socket.inet_aton(name.removesuffix(".")))
    except OSError:
        return None


def ipv6_host(text: str) -> str | None:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return None
    if address.ipv4_mapped is not None:  # in hexadecimal, other than Python since 3.13
        high, low = divmod(int(address.ipv4_mapped), 0x10000)
        return f"[::ffff:{high:x}:{low:x}]"
    return f"[{address.compressed}]"


def url_path(text: str) -> str:
    """A path such as /tasks, which may be written with a slash at its end."""
    path = text.rstrip("/")
    if path and PATH.fullmatch(path) is None:
        raise ValueError(f"a path such as /tasks, not {shown(text)}")
    return path


def networks(text: str) -> str:
    """Addresses and networks, separated by commas. One of IPv4 in IPv6 clothes becomes what it is, as addresses do."""
    entries = listed(text)
    for position, entry in enumerate(entries):
        try:
            network = ipaddress.ip_network(entry)
        except ValueError:
            raise ValueError(f"addresses or networks such as 10.0.0.0/8, not {shown(entry)}") from None
        if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
            mapped = network.network_address.ipv4_mapped
            if mapped is not None:
                entries[position] = f"{mapped}/{network.prefixlen - 96}"
    return ",".join(entries)


def listed(text: str) -> list[str]:
    return list(filter(None, map(str.strip, text.split(","))))


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
