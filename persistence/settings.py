"""Every setting of taskstore, read from the environment and a `.env` file.

`DATABASE_URL` is the one name shared with other tools; everything else starts with `TASKSTORE_`.
A wrong value raises `SettingsError`, whose one-line message names the variable and never repeats a secret.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from dotenv import dotenv_values

ROOT = Path(__file__).resolve().parent.parent

TRUE, FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


class SettingsError(Exception):
    """A setting is wrong; the message is one line for a person and names the variable."""


def setting(default: Any, meaning: str, *, at_least: float | None = None, choices: tuple[str, ...] = ()) -> Any:
    """A field of `Settings`: its default, what it means (with the unit), and its bounds."""
    return dataclasses.field(default=default, metadata={"meaning": meaning, "at_least": at_least, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings with their defaults. The variable of a field is `TASKSTORE_` and its name in capitals."""

    # The database
    database_url: str | None = dataclasses.field(
        default=None,
        repr=False,
        metadata={"meaning": "PostgreSQL 15 or later; absent: the embedded one", "at_least": None, "choices": ()},
    )
    data_dir: Path = setting(ROOT / ".data", "where the embedded PostgreSQL keeps its data")
    pool_size: int = setting(5, "database connections kept open", at_least=1)
    pool_overflow: int = setting(10, "further connections under load", at_least=0)
    pool_timeout: float = setting(3.0, "seconds to wait for a connection before answering UNAVAILABLE", at_least=0)
    pool_recycle: int = setting(3600, "seconds after which a connection is replaced", at_least=1)
    pool_ping_after: float = setting(1.0, "idle seconds after which a connection is tested before use", at_least=0)
    pgbouncer: bool = setting(False, "a PgBouncer in transaction mode is in between: no prepared statements")
    connect_timeout: float = setting(5.0, "seconds to open one connection", at_least=0.1)
    startup_timeout: float = setting(30.0, "seconds to retry an unreachable database at start", at_least=0)
    statement_timeout: float = setting(8.0, "seconds for one SQL statement", at_least=0.1)
    lock_timeout: float = setting(3.0, "seconds to wait for a row lock", at_least=0.1)
    idle_in_transaction_timeout: float = setting(15.0, "seconds a transaction may idle", at_least=0.1)
    echo: bool = setting(False, "log every SQL statement (without its values)")

    # The server
    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(8000, "port to listen on", at_least=0)
    workers: int = setting(1, "server processes", at_least=1)
    environment: str = setting("development", "affects suggestions and logs", choices=("development", "production"))
    root_path: str = setting("", "the path below which a proxy that leaves it in the URL offers this server, as /tasks")
    allowed_origins: str = setting("", "comma-separated origins of other sites that may use the API, or *")
    shutdown_timeout: float = setting(10.0, "seconds that requests in flight have at shutdown", at_least=0)
    log_format: str = setting("auto", "auto: console on a terminal, else JSON", choices=("auto", "console", "json"))
    log_level: str = setting("info", "least level that is logged", choices=("debug", "info", "warning", "error"))

    # Accounts
    sign_up: bool = setting(True, "anyone may sign up")
    sign_ups_per_hour: float = setting(60.0, "accounts that one address may make in an hour, or at once", at_least=1)
    session_days: float = setting(30.0, "days until a session token expires", at_least=0.001)
    password_hashers: int = setting(2, "password hashes computed at once", at_least=1)
    demo: bool = setting(False, "demo accounts with known passwords, and `act as` in GraphiQL")
    demo_hosts: str = setting("", "comma-separated further host names under which a server with demo accounts answers")
    token_cache_seconds: float = setting(5.0, "seconds a checked token stays checked", at_least=0)
    trusted_proxies: str = setting("", "comma-separated addresses and networks whose X-Forwarded-For is believed")

    # Execution and limits
    compiled: bool = setting(True, "use the compiled executor")
    introspection: bool = setting(True, "answer introspection queries")
    max_body: int = setting(1_000_000, "bytes of a request body", at_least=1)
    max_tokens: int = setting(2_000, "tokens of a document", at_least=1)
    max_depth: int = setting(12, "depth of a document", at_least=1)
    max_aliases: int = setting(30, "aliases of a document", at_least=0)
    max_root_fields: int = setting(20, "root fields of an operation", at_least=1)
    max_directives: int = setting(50, "directives of a document", at_least=0)
    max_operations: int = setting(10, "operations of a document", at_least=1)
    max_characters: int = setting(200_000, "characters of a document", at_least=1)
    max_selections: int = setting(3_000, "selections of an operation, fragments included", at_least=1)
    max_overlaps: int = setting(3_000, "pairs of fields of one name in one place of an operation", at_least=0)
    max_input_values: int = setting(
        5_000, "items of lists and members of objects in arguments and variables of an operation", at_least=1
    )
    max_cost: int = setting(10_000, "objects one operation may read", at_least=1)
    report_cost: bool = setting(True, "put `extensions.cost` into every answer, not only where it is asked for")
    operation_timeout: float = setting(10.0, "seconds for one operation", at_least=0.1)
    rate_budget: int = setting(100_000, "cost points a viewer may save up", at_least=1)
    rate_refill: float = setting(10_000.0, "cost points a viewer regains per second", at_least=0)
    rate_shared: bool = setting(False, "keep the budgets in PostgreSQL, for several processes")
    document_cache: int = setting(1_000, "prepared documents kept", at_least=1)
    document_cache_bytes: int = setting(24_000_000, "bytes for prepared documents", at_least=1)
    trusted_documents: Path | None = setting(None, "a manifest: only its documents are executed")
    max_subscriptions: int = setting(100, "operations one WebSocket may have open", at_least=1)
    max_sockets: int = setting(1_000, "WebSockets open at once", at_least=1)

    @property
    def embedded(self) -> bool:
        """Whether the store runs on the embedded PostgreSQL."""
        return self.database_url is None


def variable(name: str) -> str:
    """The environment variable of a field."""
    return "DATABASE_URL" if name == "database_url" else f"TASKSTORE_{name.upper()}"


def load(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings.

    `environment` replaces the process environment and the `.env` file (for tests); `overrides` are
    already typed values that win over both, with None meaning "not given". An empty variable counts
    as absent. Raises `SettingsError`.
    """
    if environment is None:
        dotenv = {k: v for k, v in dotenv_values(ROOT / ".env").items() if v is not None}
        environment = {**dotenv, **os.environ}
    known = {variable(field.name): field for field in dataclasses.fields(Settings)}
    unknown = [name for name in environment if name.startswith("TASKSTORE_") and name not in known]
    if unknown:
        raise SettingsError(f"{min(unknown)} is not a setting of taskstore; see docs/operations.md")
    values: dict[str, Any] = {}
    for name, field in known.items():
        if text := environment.get(name, "").strip():
            values[field.name] = parse(name, text, field)
    values |= {name: value for name, value in overrides.items() if value is not None}
    return Settings(**values)


def parse(name: str, text: str, field: "dataclasses.Field[Any]") -> Any:
    """The typed value of one variable. Raises `SettingsError`, without the value where it may be a secret."""
    if name == "DATABASE_URL":
        return text
    kinds: dict[type, Callable[[str], Any]] = {bool: parse_bool, int: int, float: float, Path: Path, str: str}
    kind = next(kind for kind in (get_args(field.type) or (field.type,)) if kind in kinds)
    try:
        value = kinds[kind](text)
    except ValueError:
        expected = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise SettingsError(f"{name} must be {expected}, not {text!r}") from None
    choices, least = field.metadata["choices"], field.metadata["at_least"]
    if choices and value not in choices:
        raise SettingsError(f"{name} must be one of {', '.join(choices)}, not {text!r}")
    if kind is float and not math.isfinite(value):
        raise SettingsError(f"{name} must be a finite number, not {text!r}")
    if least is not None and not value >= least:
        raise SettingsError(f"{name} must be at least {least}, not {text!r}")
    return value


def parse_bool(text: str) -> bool:
    if text.lower() in TRUE | FALSE:
        return text.lower() in TRUE
    raise ValueError(text)
