"""The ssl... parameters of a database URL as libpq means them (PostgreSQL documentation, 34.1.2 and 34.19)."""

import os
import ssl
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from persistence.settings import SettingsError

MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

FILES: Mapping[str, str] = {
    "sslrootcert": "root.crt",
    "sslcrl": "root.crl",
    "sslcert": "postgresql.crt",
    "sslkey": "postgresql.key",
}
"""Where each is looked for in `~/.postgresql`, unless the URL or the environment (PGSSLROOTCERT, ...) says it."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "sslmode": MODES,
    "sslcertmode": ("disable", "allow"),
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "ssl_max_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
}

PARAMETERS = (*CHOICES, *FILES, "sslpassword")


def arguments(given: Mapping[str, str]) -> dict[str, Any]:
    """asyncpg's arguments for the parameters of a URL. Raises `SettingsError` by the name of a parameter."""
    ours = {name: value for name, value in given.items() if name in PARAMETERS and value}
    if not ours:
        return {}  # the driver looks into the environment
    mode = ours.pop("sslmode", None) or os.environ.get("PGSSLMODE")
    if ours.get("sslrootcert") == "system":
        mode = mode or "verify-full"
        if mode != "verify-full":
            raise SettingsError("DATABASE_URL has sslrootcert=system, which needs sslmode=verify-full")
    mode = mode or "prefer"
    if mode == "disable" or (mode in MODES[:3] and not ours):
        return {"ssl": mode} | ({"direct_tls": False} if mode == "disable" else {})
    if mode in MODES[:3]:
        raise SettingsError(f"DATABASE_URL has {min(ours)}, which needs sslmode=require, verify-ca or verify-full")
    return {"ssl": context(mode, ours)} | ({"direct_tls": True} if ours.get("sslnegotiation") == "direct" else {})


def context(mode: str, ours: Mapping[str, str]) -> ssl.SSLContext:
    """Encrypts; checks the certificate where an authority is known, or must be; checks the name for verify-full."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = mode == "verify-full"
    made.minimum_version = version(ours.get("ssl_min_protocol_version") or "TLSv1.2")
    if "ssl_max_protocol_version" in ours:
        made.maximum_version = version(ours["ssl_max_protocol_version"])
    if ssl.HAS_ALPN:
        made.set_alpn_protocols(["postgresql"])
    root = file("sslrootcert", ours)
    if root == "system":
        made.load_default_certs()
    elif root is not None:
        load(made, "sslrootcert", root)
    elif mode == "require":
        made.verify_mode = ssl.CERT_NONE
    else:
        raise SettingsError(
            f"DATABASE_URL has sslmode={mode}, which needs sslrootcert: the file of an authority, or system"
        )
    if (revoked := file("sslcrl", ours)) is not None:
        load(made, "sslcrl", revoked)
        made.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    if ours.get("sslcertmode") != "disable":
        identify(made, ours)
    return made


def identify(made: ssl.SSLContext, ours: Mapping[str, str]) -> None:
    """Load the certificate that says who we are, if there is one."""
    certificate, key = file("sslcert", ours), file("sslkey", ours)
    if certificate is None:
        return
    if key is None:
        raise SettingsError("DATABASE_URL has an sslcert without sslkey")
    try:
        status = Path(key).stat()
    except OSError:
        raise SettingsError("DATABASE_URL has an sslkey that cannot be read") from None
    others = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO if status.st_uid == 0 else stat.S_IRWXG | stat.S_IRWXO
    if status.st_mode & others:
        raise SettingsError("DATABASE_URL has an sslkey that others can read; chmod 600 it")
    try:
        made.load_cert_chain(certificate, key, lambda: ours.get("sslpassword", ""))
    except (OSError, ValueError):
        raise SettingsError(
            "DATABASE_URL has an sslcert, sslkey and sslpassword that cannot be read or do not belong together"
        ) from None


def load(made: ssl.SSLContext, name: str, path: str) -> None:
    try:
        made.load_verify_locations(path)
    except (OSError, ValueError):
        raise SettingsError(f"DATABASE_URL has an {name} that cannot be read") from None


def file(name: str, ours: Mapping[str, str]) -> str | None:
    """The file of a parameter: of the URL, of the environment, or the usual one when it is there."""
    if path := ours.get(name) or os.environ.get(f"PG{name.upper()}"):
        return path
    try:
        usual = Path.home() / ".postgresql" / FILES[name]
    except RuntimeError:
        return None
    return str(usual) if usual.exists() else None


def version(name: str) -> ssl.TLSVersion:
    return ssl.TLSVersion[name.replace(".", "_")]
