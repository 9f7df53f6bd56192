"""Commands for who is locked out: accounts and tokens, from the database alone. How quickly and quietly they do it."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graph.commands.cli import main
from persistence.settings import ROOT, Settings
from tests.graph.application import application
from tests.test_commands import PASSWORD, command, email, rows

__all__ = ["command", "email"]  # fixtures

SIGN_IN = "mutation($i: SignInInput!) { signIn(input: $i) { secret errors { code } } }"
VIEWER = "{ viewer { email role } }"


@pytest.fixture
def ada(command: Callable[..., Any], email: str) -> str:
    """A member with an account: the address."""
    assert command("user", "create", "--email", email, "--name", "Ada", typed=PASSWORD)[0] == 0
    return email


def ask(settings: Settings, query: str, secret: str | None = None, **variables: Any) -> Any:
    async def run() -> Any:
        async with application(settings) as client:
            headers = {"Authorization": f"Bearer {secret}"} if secret else {}
            body = {"query": query, "variables": variables}
            return (await client.post("/graphql", json=body, headers=headers)).json()

    return asyncio.run(run())


def signed_in(settings: Settings, email: str, password: str) -> str | None:
    answer = ask(settings, SIGN_IN, i={"email": email, "password": password})
    secret: str | None = answer["data"]["signIn"]["secret"]
    return secret


def log(settings: Settings, email: str) -> list[Any]:
    statement = (
        "SELECT action, actor_id, fields FROM changes WHERE entity_id = (SELECT id FROM users WHERE email = :email) "
        "ORDER BY seq"
    )
    return rows(settings, statement, email=email)


def test_who_forgot_the_password_gets_a_new_one_and_the_sessions_end(
    command: Callable[..., Any], settings: Settings, ada: str
) -> None:
    token = command("token", "create", "--email", ada)[1].strip()
    session = signed_in(settings, ada, PASSWORD)
    code, output, error = command("user", "set-password", "--email", ada.upper(), typed="another long one\n")

    assert (code, error) == (0, "")
    assert "another long one" not in output
    assert signed_in(settings, ada, PASSWORD) is None
    assert signed_in(settings, ada, "another long one") is not None
    assert session is not None
    assert ask(settings, VIEWER, session)["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert ask(settings, VIEWER, token)["data"]["viewer"]["email"] == ada
    assert [(change.action, change.actor_id) for change in log(settings, ada)][-1] == ("updated", None)
    assert "another long one" not in str(log(settings, ada))


def test_a_locked_out_operator_becomes_an_admin(command: Callable[..., Any], settings: Settings, ada: str) -> None:
    assert command("user", "create", "--email", f"2{ada}", "--name", "Bob", "--role", "ADMIN", typed=PASSWORD)[0] == 0
    assert command("user", "set-role", "--email", ada, "--role", "admin")[0] == 0
    token = command("token", "create", "--email", ada, "--scope", "READ", "--scope", "ADMIN")[1].strip()
    answer = ask(settings, VIEWER, token)

    assert answer["data"]["viewer"] == {"email": ada, "role": "ADMIN"}
    assert command("user", "set-role", "--email", ada, "--role", "member")[0] == 0
    assert [change.actor_id for change in log(settings, ada)] == [None, None, None]


def test_accounts_are_listed_for_people_and_for_programs(command: Callable[..., Any], ada: str) -> None:
    lines = command("user", "list")[1].splitlines()
    found = {user["email"]: user for user in json.loads(command("user", "list", "--json")[1])}
    admins = json.loads(command("user", "list", "--role", "ADMIN", "--json")[1])

    [line] = [line for line in lines if ada in line]
    assert line.startswith(found[ada]["id"])
    assert found[ada]["role"] == "MEMBER"
    assert len(lines) == len(found)
    assert ada not in [user["email"] for user in admins]
    assert all(user["role"] == "ADMIN" for user in admins)
    assert "password" not in str(found)


def test_an_account_is_deleted_when_that_is_meant(command: Callable[..., Any], settings: Settings, ada: str) -> None:
    refused = command("user", "delete", "--email", ada)
    assert refused[0] == 1
    assert "--yes" in refused[2]
    assert signed_in(settings, ada, PASSWORD) is not None

    code, output, error = command("user", "delete", "--email", ada, "--yes")
    assert (code, output.splitlines()[-1], error) == (0, f"deleted {ada}", "")
    assert signed_in(settings, ada, PASSWORD) is None
    assert "there is no user" in command("user", "delete", "--email", ada, "--yes")[2]


def test_a_token_is_found_and_revoked_without_its_secret(
    command: Callable[..., Any], settings: Settings, ada: str
) -> None:
    secret = command("token", "create", "--email", ada, "--name", "lost laptop")[1].strip()
    listed = command("token", "list", "--email", ada)[1]
    [token] = json.loads(command("token", "list", "--email", ada, "--json")[1])

    assert secret not in listed
    assert token["name"] == "lost laptop"
    assert secret.startswith(token["prefix"])
    assert command("token", "revoke", token["id"])[0] == 0
    assert ask(settings, VIEWER, secret)["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert "revoked" in command("token", "list", "--email", ada)[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("user", "set-password", "--email", "nobody@example.org"), "there is no user nobody@example.org"),
        (("user", "set-role", "--email", "nobody@example.org", "--role", "ADMIN"), "there is no user"),
        (("token", "list", "--email", "nobody@example.org"), "there is no user"),
        (("token", "revoke", "tsk_abc"), "is not the id of a token"),
        (("token", "revoke", "0190f3a0-0000-7000-8000-000000000001"), "There is no such token"),
    ],
)
def test_what_does_not_exist_is_told_in_one_line(
    command: Callable[..., Any], arguments: tuple[str, ...], said: str
) -> None:
    code, output, error = command(*arguments, typed=PASSWORD)

    assert (code, output) == (1, "")
    assert error.startswith("taskstore: ")
    assert said.lower() in error.lower()
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--workers", "1001"),
        ("serve", "--workers", "٢"),
        ("serve", "--port", "٨٠٠٠"),
        ("serve", "--host", "127.0.0.1:8000"),
        ("serve", "--host", "0"),
        ("db", "upgrade", ""),
        ("db", "downgrade", " "),
        ("user", "set-role", "--email", "ada@example.org\udcff", "--role", "ADMIN"),
        ("user", "create", "--email", "ada@example.org", "--name", "two\nlines"),
    ],
)
def test_what_can_never_be_meant_is_a_wrong_command_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(arguments)

    assert refusal.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("./run")


def test_a_revision_that_does_not_exist_is_told_in_one_line(command: Callable[..., Any]) -> None:
    for action in (("db", "sql"), ("db", "upgrade"), ("db", "downgrade")):
        code, output, error = command(*action, "nonsense")

        assert (code, output) == (1, "")
        assert error == "taskstore: migration failed: Can't locate revision identified by 'nonsense'\n"


# Where the input and the output are odd


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        ("user list >/dev/full", 1, "taskstore: No space left on device\n"),
        ("db sql >/dev/full", 1, "taskstore: No space left on device\n"),
        ("db sql | true", 141, ""),  # gone before the first line, however busy the machine is
        ("user set-password --email ada@example.org <&-", 1, "taskstore: no password was given\n"),
        ("user set-password --email ada@example.org </dev/zero", 1, None),
    ],
)
def test_input_and_output_that_do_not_work_are_told_in_one_line(
    settings: Settings, ada: str, redirection: str, code: int, said: str | None
) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m graph {redirection}; exit ${{PIPESTATUS[0]}}"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": str(settings.database_url)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert said is None or done.stderr == said


def test_a_terminal_without_these_letters_shows_others(settings: Settings, command: Callable[..., Any]) -> None:
    name = f"Größe {uuid.uuid4().hex}"
    command("user", "create", "--email", f"{uuid.uuid4().hex}@example.org", "--name", name, typed=PASSWORD)
    done = subprocess.run(
        [sys.executable, "-m", "graph", "user", "list"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": str(settings.database_url), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0
    assert name.encode("ascii", "backslashreplace").decode() in done.stdout


# Quickly

HEAVY = {"strawberry", "graphql", "starlette", "uvicorn", "alembic", "orjson", "structlog", "prometheus_client"}


@pytest.mark.parametrize(
    "arguments",
    [("db", "status"), ("user", "list"), ("user", "create"), ("token", "create"), ("token", "list")],
)
def test_a_short_command_loads_no_more_than_it_needs(arguments: tuple[str, str]) -> None:
    program = (
        "import sys, importlib\n"
        "from graph.commands.cli import make_parser\n"
        f"parser = make_parser()\n"
        f"line = {list(arguments)!r} + sys.argv[1:]\n"
        "module, _, function = parser.parse_args(line).action.partition('.')\n"
        "getattr(importlib.import_module('graph.commands.' + module), function)\n"
        "print(' '.join(name for name in sys.modules if '.' not in name))"
    )
    needed = {"user create": ["--email", "a@b.c", "--name", "A"]}.get(" ".join(arguments), [])
    if arguments[0] == "token":
        needed = ["--email", "a@b.c"]
    done = subprocess.run(
        [sys.executable, "-c", program, *needed], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "sqlalchemy" in done.stdout.split()
    assert HEAVY.isdisjoint(done.stdout.split())


# Quietly


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.15, 0.3, 0.6, 1.2, 2.0])
def test_an_interrupt_at_any_moment_is_quiet(tmp_path: Path, delay: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "run", "token", "create", "--email", "ada@example.org"],
        cwd=ROOT,
        env={**os.environ, "TASKSTORE_DATA_DIR": str(tmp_path / "data")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)

    # -2: ended by the signal itself, for which a shell has the exit code 130. 1: it was over before.
    assert process.returncode in (130, -signal.SIGINT, 1)
    assert output == ""
    assert "Exception" not in error
    # Before the first line of ours is read, Python may have something to say.
    assert str(ROOT) not in error.replace(str(ROOT / ".venv"), "")


def test_an_interrupt_at_the_prompt_for_a_password_is_quiet(settings: Settings) -> None:
    terminal, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "graph", "user", "create", "--email", "ada@example.org", "--name", "Ada"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": str(settings.database_url)},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # it becomes the terminal
    )
    os.close(slave)
    shown = b""
    while b"Password" not in shown:
        shown += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    code = process.wait(30)
    os.close(terminal)

    assert code == 130
    assert b"Traceback" not in shown
