"""Every setting of taskstore, read from the environment and a `.env` file.

`DATABASE_URL` is the one name shared with other tools; everything else starts with `TASKSTORE_`.
What is wrong raises `SettingsError`, whose message is one line that names the variables and never repeats a secret.

No pydantic-settings: reading these 50 settings with it takes 130 ms of processor time longer, of the 500 that a short
command may take in all.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from persistence.rules import forms

ROOT = Path(__file__).resolve().parent.parent

TRUE, FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}

DAY = 86_400
MANY = 1_000_000_000
"""More than anybody has a use for, and far below what PostgreSQL, the driver and the clock can count."""


class SettingsError(Exception):
    """A setting is wrong; the message is one line for a person and names the variable."""


def setting(
    default: Any,
    meaning: str,
    *,
    at_least: float | None = None,
    at_most: float = MANY,
    choices: tuple[str, ...] = (),
    form: Callable[[str], str] | None = None,
) -> Any:
    """A field of `Settings`: its default, what it means (with the unit), its bounds, and the form of a text.

    `form` returns the text as it is used, or raises `ValueError` with what it should be.
    """
    metadata = {"meaning": meaning, "at_least": at_least, "at_most": at_most, "choices": choices, "form": form}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings with their defaults. The variable of a field is `TASKSTORE_` and its name in capitals."""

    # The database
    database_url: str | None = dataclasses.field(
        default=None,
        repr=False,
        metadata={"meaning": "PostgreSQL 15 or later; absent: the embedded one"},
    )
    data_dir: Path = setting(ROOT / ".data", "where the embedded PostgreSQL keeps its data")
    pool_size: int = setting(5, "database connections kept open", at_least=1, at_most=1_000)
    pool_overflow: int = setting(10, "further connections under load", at_least=0, at_most=1_000)
    pool_timeout: float = setting(
        3.0, "seconds to wait for a connection before answering UNAVAILABLE", at_least=0, at_most=DAY
    )
    pool_recycle: int = setting(3600, "seconds after which a connection is replaced", at_least=1, at_most=365 * DAY)
    pool_ping_after: float = setting(
        1.0, "idle seconds after which a connection is tested before use", at_least=0, at_most=DAY
    )
    pgbouncer: bool = setting(False, "a PgBouncer in transaction mode is in between: no prepared statements")
    connect_timeout: float = setting(5.0, "seconds to open one connection", at_least=0.1, at_most=DAY)
    startup_timeout: float = setting(30.0, "seconds to retry an unreachable database at start", at_least=0, at_most=DAY)
    statement_timeout: float = setting(8.0, "seconds for one SQL statement", at_least=0.1, at_most=DAY)
    lock_timeout: float = setting(3.0, "seconds to wait for a row lock", at_least=0.1, at_most=DAY)
    idle_in_transaction_timeout: float = setting(15.0, "seconds a transaction may idle", at_least=0.1, at_most=DAY)
    echo: bool = setting(False, "log every SQL statement (without its values)")

    # The server
    host: str = setting("127.0.0.1", "address to listen on", form=forms.host)
    port: int = setting(8000, "port to listen on", at_least=0, at_most=65_535)
    workers: int = setting(1, "server processes", at_least=1, at_most=1_000)
    environment: str = setting("development", "affects suggestions and logs", choices=("development", "production"))
    root_path: str = setting(
        "", "the path below which a proxy that leaves it in the URL offers this server, as /tasks", form=forms.url_path
    )
    head_timeout: float = setting(
        10.0, "seconds for the head of a request, or for a new connection's first", at_least=0.1, at_most=DAY
    )
    max_head: int = setting(65_536, "bytes of a request before its body", at_least=1_024, at_most=10_000_000)
    max_headers: int = setting(100, "headers of a request", at_least=10, at_most=10_000)
    max_connections: int = setting(2_000, "connections open at once, per process", at_least=1, at_most=1_000_000)
    max_connections_per_address: int = setting(500, "of which one address may have", at_least=1, at_most=1_000_000)
    allowed_origins: str = setting(
        "", "comma-separated origins of other sites that may use the API, or *", form=forms.origins
    )
    shutdown_timeout: float = setting(10.0, "seconds that requests in flight have at shutdown", at_least=0, at_most=DAY)
    log_format: str = setting("auto", "auto: console on a terminal, else JSON", choices=("auto", "console", "json"))
    log_level: str = setting("info", "least level that is logged", choices=("debug", "info", "warning", "error"))

    background: bool = setting(True, "run the background loops beside the requests; otherwise ./run work does")

    # Accounts
    sign_up: bool = setting(True, "anyone may sign up")
    sign_ups_per_hour: float = setting(
        60.0, "accounts that one address may make in an hour, or at once", at_least=1, at_most=1e9
    )
    session_days: float = setting(30.0, "days until a session token expires", at_least=0.001, at_most=36_500)
    password_hashers: int = setting(2, "password hashes computed at once", at_least=1, at_most=1_000)
    demo: bool = setting(False, "demo accounts with known passwords, and `act as` in GraphiQL")
    demo_hosts: str = setting(
        "", "comma-separated further host names under which a server with demo accounts answers", form=forms.hosts
    )
    token_cache_seconds: float = setting(5.0, "seconds a checked token stays checked", at_least=0, at_most=3_600)
    trusted_proxies: str = setting(
        "", "comma-separated addresses and networks whose X-Forwarded-For is believed", form=forms.networks
    )

    # Execution and limits
    compiled: bool = setting(True, "use the compiled executor")
    introspection: bool = setting(True, "answer introspection queries and /schema.graphql")
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
    operation_timeout: float = setting(10.0, "seconds for one operation", at_least=0.1, at_most=DAY)
    rate_budget: int = setting(100_000, "cost points a viewer may save up", at_least=1)
    rate_refill: float = setting(10_000.0, "cost points a viewer regains per second", at_least=0)
    rate_shared: bool = setting(False, "keep the budgets in PostgreSQL, for several processes")
    document_cache: int = setting(1_000, "prepared documents kept", at_least=1)
    document_cache_bytes: int = setting(24_000_000, "bytes for prepared documents", at_least=1)
    trusted_documents: Path | None = setting(None, "a manifest: only its documents are executed")
    max_subscriptions: int = setting(100, "operations one WebSocket may have open", at_least=1)
    max_sockets: int = setting(1_000, "WebSockets open at once", at_least=1, at_most=1_000_000)
    max_sockets_per_address: int = setting(
        100, "of which one address may have on which nobody is signed in", at_least=1, at_most=1_000_000
    )
    max_sockets_per_viewer: int = setting(100, "of which one viewer may have", at_least=1, at_most=1_000_000)
    silent_timeout: float = setting(
        30.0,
        "seconds a WebSocket stays on which nobody is signed in and nothing is asked for",
        at_least=0.1,
        at_most=DAY,
    )

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
    as absent. Raises `SettingsError` with everything that is wrong.
    """
    if environment is None:
        environment = {**dotenv(ROOT / ".env"), **os.environ}
    known = {variable(field.name): field for field in dataclasses.fields(Settings)}
    problems = [
        f"{name} is not a setting of taskstore; see docs/operations.md"
        for name in sorted(environment)
        if name.startswith("TASKSTORE_") and name not in known
    ]
    values: dict[str, Any] = {}
    for name, field in known.items():
        if text := environment.get(name, "").strip():
            try:
                values[field.name] = parse(forms.one_line(text), field)
            except ValueError as error:
                problems.append(f"{name} must be {error}")
    values |= {name: value for name, value in overrides.items() if value is not None}
    settings = Settings(**values)
    problems += [] if problems else contradictions(settings)
    if problems:
        raise SettingsError("; ".join(problems))
    return settings


def dotenv(file: Path) -> dict[str, str]:
    """The variables of a `.env` file, if there is one. Raises `SettingsError`.

    `${NAME}` stands for another variable, as in a shell: not in single quotes.
    """
    try:
        if not file.exists():  # the library that reads it takes 20 ms
            return {}
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SettingsError(f"{file.name} is not in UTF-8: save it as UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{file.name} cannot be read: {error.strerror}") from None
    if "\0" in text:  # UTF-16 or UTF-32 without a mark at its start, of which no line would be a setting
        raise SettingsError(f"{file.name} is not in UTF-8: save it as UTF-8")
    import io

    from dotenv.parser import parse_stream
    from dotenv.variables import parse_variables

    values: dict[str, str] = {}
    for line in parse_stream(io.StringIO(text)):
        if line.error or (line.key is not None and line.value is None):
            original = line.original.string  # with the empty lines before
            number = line.original.line + original[: -len(original.lstrip())].count("\n")
            raise SettingsError(f"{file.name}, line {number}: expected NAME=value")
        if line.key is None or line.value is None:  # a comment
            continue
        literal = line.original.string.partition("=")[2].lstrip().startswith("'")
        around = {**values, **os.environ}
        parts = parse_variables(line.value)
        values[line.key] = line.value if literal else "".join(part.resolve(around) for part in parts)
    return values


def parse(text: str, field: "dataclasses.Field[Any]") -> Any:
    """The typed value of one variable. Raises `ValueError` with what it should be."""
    if field.name == "database_url":
        return text
    kinds: dict[type, Callable[[str], Any]] = {
        bool: parse_bool,
        int: forms.integer,
        float: forms.number,
        Path: parse_path,
        str: str,
    }
    kind = next(kind for kind in (get_args(field.type) or (field.type,)) if kind in kinds)
    try:
        value = kinds[kind](text)
    except ValueError:
        expected = {bool: "true or false", int: "a whole number", float: "a number", Path: PATH}[kind]
        raise ValueError(f"{expected}, not {forms.shown(text)}") from None
    choices, form = field.metadata["choices"], field.metadata["form"]
    if choices and value not in choices:
        raise ValueError(f"one of {', '.join(choices)}, not {forms.shown(text)}")
    if form is not None:
        return form(text)
    if kind in (int, float):
        check_bounds(value, text, field)
    return value


def check_bounds(value: float, text: str, field: "dataclasses.Field[Any]") -> None:
    least, most = field.metadata["at_least"], field.metadata["at_most"]
    if not math.isfinite(value):
        raise ValueError(f"a finite number, not {forms.shown(text)}")
    if least is not None and value < least:
        raise ValueError(f"at least {least}, not {forms.shown(text)}")
    if value > most:
        raise ValueError(f"at most {most}, not {forms.shown(text)}")


def parse_bool(text: str) -> bool:
    if text.lower() in TRUE | FALSE:
        return text.lower() in TRUE
    raise ValueError(text)


PATH = "a path, which may begin with ~ or, in .env, with ${HOME}"


def parse_path(text: str) -> Path:
    if text.startswith("$"):  # nobody has replaced it: a directory of this name would be made
        raise ValueError(text)
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user
        raise ValueError(text) from None


def contradictions(settings: Settings) -> list[str]:
    """What is wrong with values that are right each by itself."""
    problems = []
    if settings.rate_budget < settings.max_cost:
        problems.append(
            f"{variable('rate_budget')} ({settings.rate_budget}) must be at least {variable('max_cost')} "
            f"({settings.max_cost}), or the most expensive operations would never run"
        )
    return problems
