"""The forms of settings that are texts.

Each returns the text as it is used, or raises `ValueError` with what it should be.
"""

import ipaddress
import re

HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?", re.IGNORECASE)
ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[^\s/:?#@\[\]]+)(:(?P<port>\d{1,5}))?")
PATH = re.compile(r"(/[\w.~!$&'()*+,;=:@%-]+)+", re.ASCII)
DEFAULT_PORTS = {"http": "80", "https": "443"}


def host(text: str) -> str:
    """A host name or an address, without a scheme and a port."""
    if not is_address(text) and (len(text) > 253 or HOST.fullmatch(text) is None):
        raise ValueError(f"a host name or an address without a port, such as 127.0.0.1 or ::1, not {text!r}")
    return text


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
        hint = f"{stem[0]} without what follows" if stem else "https://app.example.org"
        raise ValueError(
            f"origins such as https://app.example.org or *, without a path or a slash: {hint}, not {text!r}"
        )
    scheme, name, port = match["scheme"], match["host"], match["port"]
    sent = f"{scheme}://{name}" if port in (None, DEFAULT_PORTS.get(scheme)) else f"{scheme}://{name}:{int(port)}"
    sent = sent.lower()
    if sent != text:
        raise ValueError(f"origins as browsers send them: {sent}, not {text!r}")
    return text


def url_path(text: str) -> str:
    """A path such as /tasks, which may be written with a slash at its end."""
    path = text.rstrip("/")
    if path and PATH.fullmatch(path) is None:
        raise ValueError(f"a path such as /tasks, not {text!r}")
    return path


def networks(text: str) -> str:
    """Addresses and networks, separated by commas."""
    for entry in listed(text):
        try:
            ipaddress.ip_network(entry)
        except ValueError:
            raise ValueError(f"addresses or networks such as 10.0.0.0/8, not {entry!r}") from None
    return text


def listed(text: str) -> list[str]:
    return list(filter(None, map(str.strip, text.split(","))))


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
