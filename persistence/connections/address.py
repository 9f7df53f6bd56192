"""Where the database is: DATABASE_URL, read as libpq reads it.

PostgreSQL documentation, 34.1.1.2 (connection URIs) and 34.1.2 (parameters). A parameter means what it means there, or
is refused by name in one line: what is passed over in silence could be somebody's security.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote

import asyncpg
from sqlalchemy import URL

from persistence.connections import tls
from persistence.settings import SettingsError

EXPECTED = "expected postgresql://user:password@host:5432/name"

FIXED: Mapping[str, frozenset[str]] = {
    "channel_binding": frozenset({"disable", "prefer"}),
    "client_encoding": frozenset({"utf8", "utf-8", "unicode"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "load_balance_hosts": frozenset({"disable"}),
    "replication": frozenset({"false", "off", "no", "0"}),
    "sslcompression": frozenset({"0"}),
    "sslsni": frozenset({"1"}),
}
"""What the driver always does: other values are refused."""

HINTS: Mapping[str, str] = {
    "channel_binding": "leave it out; sslmode=verify-full with sslrootcert makes sure who answers",
    "pgbouncer": "leave it out, and set TASKSTORE_PGBOUNCER=true",
}

ATTRIBUTES = frozenset({"any", "read-write", "read-only", "primary", "standby", "prefer-standby"})

OTHERS = frozenset(
    {
        *("host", "port", "dbname", "user", "password", "passfile", "connect_timeout", "options", "application_name"),
        *("fallback_application_name", "target_session_attrs", *tls.PARAMETERS),
    }
)


@dataclass(frozen=True)
class Address:
    """A database URL taken apart. Hosts that begin with a slash are directories of sockets; None is the default."""

    hosts: tuple[str, ...]
    ports: tuple[int | None, ...]
    database: str
    user: str | None
    password: str | None
    parameters: Mapping[str, str]

    @property
    def where(self) -> str:
        """For messages and logs: hosts, ports and name, without user, password or parameters."""
        hosts = (f"[{host}]" if ":" in host else host or "local socket" for host in self.hosts)
        ports = ("" if port is None else f":{port}" for port in self.ports)
        said = f"{','.join(map(''.join, zip(hosts, ports, strict=True))) or 'local socket'}/{self.database}"
        return "".join(character if character.isprintable() else "?" for character in said)

    @property
    def url(self) -> URL:
        """What SQLAlchemy knows of it."""
        url = URL.create("postgresql+asyncpg", self.user, self.password, database=self.database)
        if len(self.hosts) == 1 and not self.hosts[0].startswith("/"):
            return url.set(host=self.hosts[0] or None, port=self.ports[0])
        query = {"host": ",".join(self.hosts)} if self.hosts else {}
        if any(self.ports):
            query["port"] = ",".join(str(port or 5432) for port in self.ports)
        return url.set(query=query)

    @property
    def arguments(self) -> dict[str, Any]:
        """asyncpg's further arguments. Raises `SettingsError` when a file cannot be used."""
        given = self.parameters
        arguments: dict[str, Any] = tls.arguments(given)
        if "connect_timeout" in given:
            arguments["timeout"] = float(given["connect_timeout"]) or None  # zero waits for ever
        for name in ("passfile", "target_session_attrs"):
            if name in given:
                arguments[name] = given[name]
        sent = {name: given[name] for name in ("options", "application_name") if given.get(name)}
        if "application_name" not in sent and "fallback_application_name" in given:
            sent["application_name"] = given["fallback_application_name"]
        if sent:
            arguments["server_settings"] = sent
        if len(self.hosts) > 1:
            arguments["async_creator_fn"] = connect_to_one
        return arguments


def set_by_options(options: str) -> frozenset[str]:
    """The settings that `options` gives to the server ("postgres", options -c and --name=value)."""
    return frozenset(name.lower().replace("-", "_") for name in re.findall(r"(?:-c\s*|--)([\w.-]+)=", options))


async def connect_to_one(
    *, host: Sequence[str], port: Sequence[int | None] = (), target_session_attrs: str = "any", **arguments: Any
) -> Any:
    """A connection to the first host that answers and is of the kind that is asked for, each with its own time."""
    failure: BaseException = ConnectionError("there is no host")
    kinds = ("standby", "any") if target_session_attrs == "prefer-standby" else (target_session_attrs,)
    for kind in kinds:
        for one, its in zip(host, port or [None] * len(host), strict=True):
            where: dict[str, Any] = {"host": one, "port": its, "target_session_attrs": kind}
            try:
                return await asyncpg.connect(**where, **arguments)
            except (OSError, asyncpg.CannotConnectNowError, asyncpg.TargetServerAttributeNotMatched) as error:
                failure = error
    raise failure


# Reading


def parse(text: str) -> Address:
    """Take a URL apart. Raises `SettingsError`, whose line repeats nothing that could be a part of a password."""
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        raise SettingsError(f"DATABASE_URL is not a URL; {EXPECTED}")
    if scheme.split("+")[0] not in ("postgres", "postgresql"):
        other = scheme if re.fullmatch(r"[a-z][a-z0-9+]{0,20}", scheme) else "another scheme"
        raise SettingsError(f"DATABASE_URL must start with postgresql://, not {other}")
    # As in libpq the user and the password end at the first @ before a slash. Another @ would be one of the password.
    authority, slash, path = rest.partition("/")
    account, _, hosts = authority.rpartition("@")
    if rest.count("@") > authority.count("@") or authority.count("@") > 1:
        raise SettingsError(
            "DATABASE_URL has an @ that does not end the user and the password; write @ as %40 and / as %2F in them"
        )
    if not slash and "?" in hosts:
        hosts, _, query = hosts.partition("?")
        path = f"?{query}"
    name, _, query = path.partition("?")
    user, _, password = account.partition(":")
    given = parameters(query)
    names, ports = places(hosts, given)
    database = given.get("dbname") or decoded(name)
    if not database:
        raise SettingsError(f"DATABASE_URL names no database; {EXPECTED}")
    return Address(
        hosts=names,
        ports=ports,
        database=database,
        user=given.get("user") or decoded(user) or None,
        password=given.get("password") or decoded(password) or None,
        parameters=given,
    )


def places(hosts: str, given: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[int | None, ...]]:
    """Hosts and their ports, as many of each; parameters win over what stands before the path."""
    found = [re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?", place) for place in hosts.split(",")]
    names = [decoded(match[1]).strip("[]") if match else "" for match in found]
    ports = [decoded(match[2] or "") if match else "?" for match in found]
    if given.get("host"):
        names = given["host"].split(",")
    if given.get("port"):
        ports = given["port"].split(",")
    if len(ports) == 1:
        ports *= len(names)
    if len(ports) != len(names) or not all(re.fullmatch(r"|0*[1-9]\d{0,4}", port, re.ASCII) for port in ports):
        raise SettingsError(f"DATABASE_URL is not a URL: a port is a number, one for each host; {EXPECTED}")
    if any(int(port or 0) > 65_535 for port in ports):
        raise SettingsError("DATABASE_URL has a port above 65535")
    if names == [""] and ports == [""]:
        return (), ()
    if not all(map(is_host, names)):
        raise SettingsError(f"DATABASE_URL is not a URL: it has a host that cannot be one; {EXPECTED}")
    return tuple(names), tuple(int(port) if port else None for port in ports)


def is_host(name: str) -> bool:
    """Whether it may be the name or address of a host, or the directory of a socket; empty is the default."""
    if name == "" or name.startswith("/"):
        return "\0" not in name
    try:
        if ":" in name:
            return bool(ip_address(name))
        return bool(name.encode("idna")) and re.fullmatch(r"[^\s/?#@%\\]+", name) is not None
    except ValueError:
        return False


def parameters(query: str) -> dict[str, str]:
    """The parameters after the question mark, the last of a name counts. Raises `SettingsError` by their name."""
    given: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, equals, value = map(decoded, part.partition("="))
        shown = name if re.fullmatch(r"[A-Za-z_]{1,40}", name) else "something"
        if name == "ssl":  # as JDBC has it
            name, value = "sslmode", "require" if value == "true" else value
        if not equals or (name not in OTHERS and name not in FIXED):
            raise SettingsError(f"DATABASE_URL has {shown}, {HINTS.get(name, 'which taskstore does not understand')}")
        allowed = FIXED.get(name) or tls.CHOICES.get(name)
        if (value.lower() if name in FIXED else value) not in (allowed or (value,)):
            hint = HINTS.get(name, f"expected {', '.join(sorted(allowed or ()))}")
            raise SettingsError(f"DATABASE_URL has another {shown} than this driver can do; {hint}")
        given[name] = value
    if not given.get("connect_timeout", "0").isascii() or not given.get("connect_timeout", "0").isdecimal():
        raise SettingsError("DATABASE_URL has a connect_timeout that is no number of seconds")
    if given.get("target_session_attrs", "any") not in ATTRIBUTES:
        raise SettingsError(f"DATABASE_URL has another target_session_attrs than {', '.join(sorted(ATTRIBUTES))}")
    return given


def decoded(text: str) -> str:
    """Percent-encoding undone. Raises `SettingsError` where it is none."""
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", text):
        raise SettingsError("DATABASE_URL has a % that begins no encoded character; write it as %25")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise SettingsError("DATABASE_URL has an encoded character that is not UTF-8") from None
