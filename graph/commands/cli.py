"""The command line. Only the standard library is imported here, so that help and mistakes are answered at once."""
# ruff: noqa: T201  # its output is what it is for

import argparse
import contextlib
import gc
import importlib
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent

EXIT_CODES = """\
exit codes:
  0    done; for the server also: stopped by Ctrl-C or SIGTERM
  1    refused or failed; the last line on standard error says why
  2    the command line is wrong
  130  interrupted by Ctrl-C
  141  whoever read the output went away
"""


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    parser = make_parser()
    if not all(map(str.isprintable, arguments)):
        parser.error("an argument has a line break, a control character or bytes that are no UTF-8")
    options = parser.parse_args(with_default_command(arguments))
    if options.action == "help":
        return main([*options.topic, "--help"])
    module, _, function = options.action.partition(".")
    try:
        command = loaded(f"graph.commands.{module}", function)
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = command(options) or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from graph.commands import expected

        if isinstance(error, OSError):
            return failed_output(error)
        if not isinstance(error, expected()):
            raise
        print(f"taskstore: {error}", file=sys.stderr)
        return 1


def loaded(module: str, function: str) -> Callable[[argparse.Namespace], int | None]:
    """A command with its packages, which are most of the time a start takes."""
    gc.disable()  # they are no garbage, and would be searched for some dozens of times
    try:
        command: Callable[[argparse.Namespace], int | None] = getattr(importlib.import_module(module), function)
    finally:
        gc.enable()
    return command


def failed_output(error: OSError) -> int:
    """The exit code when the system refuses something, such as more output: silent where its reader went, as of `head`.

    What the database refuses is no such error.
    """
    with contextlib.suppress(OSError, ValueError):  # what is left is not tried again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return 141
    print(f"taskstore: {': '.join(filter(None, (error.filename, error.strerror or str(error))))}", file=sys.stderr)
    return 1


def with_default_command(arguments: Sequence[str]) -> list[str]:
    """`./run --port 8001` means `./run serve --port 8001`."""
    first = arguments[0] if arguments else "serve"
    if first.startswith("-") and first not in ("-h", "--help", "--version"):
        return ["serve", *arguments]
    return list(arguments) or ["serve"]


ROLES = ["MEMBER", "ADMIN"]
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta | None:
    """`90d`, `12h`, `30m` or `2w`; `never` is None."""
    if text == "never":
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})([mhdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time like 90d, 12h, 30m, 2w or never")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def host(text: str) -> str:
    from persistence.rules import forms

    try:
        return forms.host(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be {error}") from None


def port(text: str) -> int:
    if re.fullmatch("[0-9]{1,5}", text) is None or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def workers(text: str) -> int:
    if re.fullmatch("[0-9]{1,4}", text) is None or not 1 <= int(text) <= 1_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000")
    return int(text)


def revision(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("a revision has at least one character")
    return text


def version() -> str:
    import tomllib

    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


class Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *arguments: Any) -> None:
        print(f"taskstore {version()}")
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./run",
        description="taskstore: a task store with a GraphQL API. Without a command it serves.",
        epilog="`./run COMMAND --help` says more. Settings come from the environment and .env: docs/operations.md",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        group: "argparse._SubParsersAction[argparse.ArgumentParser]",
        name: str,
        action: str,
        summary: str,
        description: str = "",
    ) -> argparse.ArgumentParser:
        command = group.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.\n\n{description}".strip(),
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(action=action)
        return command

    add_serve(add(commands, "serve", "serving.serve", "start the server (the default)", SERVE))
    add(commands, "work", "serving.work", "run the background loops in a process of their own", WORK)
    installing = add(commands, "install", "serving.install", "only make the environment, from the lock files")
    installing.add_argument("--dev", action="store_true", help="with the tools for tests")
    add(commands, "test", "serving.test", "run all tests; takes the arguments of pytest", TEST)

    db = commands.add_parser("db", help="migrations: upgrade, downgrade, status, reset, recut, check, sql")
    actions = db.add_subparsers(title="commands", metavar="COMMAND", required=True)
    up = add(actions, "upgrade", "database.upgrade", "bring the database to the newest revision, or to the one named")
    up.add_argument("revision", nargs="?", type=revision, default="head")
    down = add(
        actions, "downgrade", "database.downgrade", "take the database back by one revision, or to the one named"
    )
    down.add_argument(
        "revision", nargs="?", type=revision, default="-1", help="-1 (default), base (empty) or a revision"
    )
    add(
        actions,
        "status",
        "database.status",
        "say which revision the database has; exit code 1 when it is not the newest",
    )
    reset = add(actions, "reset", "database.reset", "delete everything and make the tables anew")
    reset.add_argument("--yes", action="store_true", help="really")
    add(actions, "recut", "database.recut", "make words and sort keys anew that an earlier rule has made")
    add(actions, "check", "database.check", "compare the migrations with the models, on a temporary database")
    add(actions, "sql", "database.sql", "print the SQL of the migrations, to run by hand").add_argument(
        "revision", nargs="?", type=revision, default="head"
    )

    add_schema(
        add(
            commands,
            "schema",
            "schema.run",
            "compare the schema with schema.graphql, write it, or list operations",
            SCHEMA,
        )
    )

    user = commands.add_parser("user", help="accounts")
    users = user.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_user_create(
        add(users, "create", "users.create", "create an account, such as that of the first admin", USER_CREATE)
    )

    listing = add(users, "list", "users.show", "list the accounts, by address")
    listing.add_argument("--role", choices=ROLES, type=str.upper, help="only those with this role")
    listing.add_argument("--json", action="store_true", help="as JSON")
    password = add(users, "set-password", "users.set_password", "give an account a new password", SET_PASSWORD)
    password.add_argument("--email", required=True, metavar="E", help="whose password")
    role = add(users, "set-role", "users.set_role", "make somebody an admin, or a member", SET_ROLE)
    role.add_argument("--email", required=True, metavar="E", help="whose role")
    role.add_argument("--role", required=True, choices=ROLES, type=str.upper, help="what they may do")
    deleting = add(users, "delete", "users.delete", "delete an account and all that it owns, for good")
    deleting.add_argument("--email", required=True, metavar="E", help="whose account")
    deleting.add_argument("--yes", action="store_true", help="really")

    token = commands.add_parser("token", help="access tokens for scripts")
    tokens = token.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_token_create(add(tokens, "create", "tokens.create", "create a token and print its secret, alone", TOKEN_CREATE))

    held = add(tokens, "list", "tokens.show", "list the tokens of an account, without their secrets")
    held.add_argument("--email", required=True, metavar="E", help="whose tokens")
    held.add_argument("--json", action="store_true", help="as JSON")
    revoking = add(tokens, "revoke", "tokens.revoke", "revoke a token, as `./run token list` shows it")
    revoking.add_argument("id", metavar="ID", help="its id")

    seeding = add(commands, "seed", "serving.seed", "make the demo accounts and tasks where they are missing", SEED)
    seeding.add_argument("--demo", action="store_true", help="also in the database of DATABASE_URL")

    helping = commands.add_parser("help", help="show this, or the help of a command")
    helping.add_argument("topic", nargs="*", metavar="COMMAND")
    helping.set_defaults(action="help")
    return parser


def add_serve(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--host", type=host, metavar="H", help="address to listen on (default 127.0.0.1; TASKSTORE_HOST)"
    )
    command.add_argument("--port", type=port, metavar="P", help="port (default 8000; 0: any free one; TASKSTORE_PORT)")
    command.add_argument("--workers", type=workers, metavar="N", help="processes (default 1; TASKSTORE_WORKERS)")
    command.add_argument("--no-browser", dest="browser", action="store_false", help="do not open GraphiQL in a browser")
    demo = command.add_mutually_exclusive_group()
    demo.add_argument(
        "--demo", action="store_true", default=None, help="demo accounts even where others may reach them"
    )
    demo.add_argument("--no-demo", dest="demo", action="store_false", help="no demo accounts")
    command.add_argument("--reload", action="store_true", help="start again when the source changes")
    command.add_argument("--no-migrate", dest="migrate", action="store_false", help="leave the tables as they are")


def add_schema(command: argparse.ArgumentParser) -> None:
    choice = command.add_mutually_exclusive_group(required=True)
    choice.add_argument("--check", action="store_true", help="fail on a difference and name what breaks clients")
    choice.add_argument("--write", action="store_true", help="write schema.graphql")
    choice.add_argument(
        "--manifest", type=Path, metavar="DIR", help="list the operations of all .graphql files below DIR as trusted"
    )
    command.add_argument("--output", type=Path, metavar="FILE", help="where the list goes (default: standard output)")


def add_user_create(command: argparse.ArgumentParser) -> None:
    command.add_argument("--email", required=True, metavar="E", help="the address to sign in with")
    command.add_argument("--name", required=True, metavar="N", help="the name to show")
    command.add_argument("--role", choices=ROLES, type=str.upper, default="MEMBER", help="default: MEMBER")


def add_token_create(command: argparse.ArgumentParser) -> None:
    command.add_argument("--email", required=True, metavar="E", help="whose token")
    command.add_argument("--name", default="command line", metavar="N", help="what it is for (default: command line)")
    command.add_argument(
        "--scope",
        action="append",
        choices=["READ", "WRITE", "ADMIN"],
        type=str.upper,
        help="what it may do; may be repeated (default: READ and WRITE)",
    )
    command.add_argument(
        "--expires-in",
        type=duration,
        default=timedelta(days=90),
        metavar="T",
        help="30m, 12h, 90d, 2w or never (default: 90d)",
    )


SERVE = """\
Without DATABASE_URL, a PostgreSQL of its own keeps the data in .data (TASKSTORE_DATA_DIR). The tables are
brought to this code's revision first.

Behind a loopback address, this database gets demo accounts with known passwords. Anywhere else they need --demo.

examples:
  ./run
  ./run serve --port 8080 --no-browser
  DATABASE_URL=postgresql://me@db.example.org/tasks ./run serve --host 0.0.0.0 --workers 4"""

TEST = """\
The tests start a PostgreSQL of their own. Without arguments they run in several processes, each with one.
What pytest takes: .venv/bin/python -m pytest --help

examples:
  ./run test
  ./run test tests/graph -k connection -x
  ./run test tests/graph -n 2"""

SCHEMA = """\
examples:
  ./run schema --check     in CI
  ./run schema --write     after a change that was meant
  ./run schema --manifest web/src --output trusted.json
      the operations of a client, for TASKSTORE_TRUSTED_DOCUMENTS"""

USER_CREATE = """\
The password, at least 10 characters, is asked for on the terminal, or read from standard input: one line.

examples:
  ./run user create --email ada@example.org --name Ada --role ADMIN
  ./run user create --email ada@example.org --name Ada < password.txt"""

SET_PASSWORD = """\
For somebody who is locked out. The new password, at least 10 characters, is asked for on the terminal, or read from
standard input: one line. All sessions of the account end; its tokens for scripts stay.

example:
  ./run user set-password --email ada@example.org"""  # noqa: S105  # not a password

SET_ROLE = """\
A running server knows it within TASKSTORE_TOKEN_CACHE_SECONDS. The last admin stays one.

example:
  ./run user set-role --email ada@example.org --role ADMIN"""

TOKEN_CREATE = """\
Only the secret is printed to standard output, and only this once: the store keeps its hash.

examples:
  ./run token create --email test@example.com
  TOKEN=$(./run token create --email admin@example.com --scope READ --scope ADMIN --expires-in 12h --name nightly)"""  # noqa: S105  # not a password

WORK = """\
What the server does beside the requests as well, unless TASKSTORE_BACKGROUND=false: delete what is too old, and what
closed accounts own. Any number of processes may do it at once.

example:
  TASKSTORE_BACKGROUND=false ./run serve --workers 4     and in another terminal: ./run work"""

SEED = """\
Doing it again adds nothing twice, and gives the accounts fresh tokens."""
