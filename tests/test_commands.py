"""Commands that make something in a database or of files: accounts, and lists of trusted documents."""

import asyncio
import getpass
import io
import json
import os
import pty
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from graph.commands.cli import main
from graph.server.app import create_app
from graph.transport.persisted import digest
from persistence.connections.engine import create_engine
from persistence.settings import ROOT, Settings
from tests.graph.application import application

PASSWORD = "correct horse battery"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def command(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command on the database of the tests: (exit code, standard output, standard error)."""
    for name in [name for name in os.environ if name.startswith("TASKSTORE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", str(settings.database_url))

    def run(*arguments: str, typed: str | Terminal = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", typed if isinstance(typed, Terminal) else io.StringIO(typed))
        code = main(arguments)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture
def email() -> str:
    return f"{uuid.uuid4().hex}@example.org"


def rows(settings: Settings, statement: str, **values: Any) -> list[Any]:
    async def run() -> list[Any]:
        engine = create_engine(settings, pooled=False)
        try:
            async with engine.connect() as connection:
                return list((await connection.execute(text(statement), values)).all())
        finally:
            await engine.dispose()

    return asyncio.run(run())


def post(settings: Settings, query: str, **parameters: Any) -> Any:
    async def run() -> Any:
        async with application(settings) as client:
            return (await client.post("/graphql", json={"query": query, **parameters})).json()

    return asyncio.run(run())


# Accounts


def test_the_first_admin_of_a_database_can_sign_in(command: Callable[..., Any], settings: Settings, email: str) -> None:
    create = ("user", "create", "--email", email.upper(), "--name", " Ada ", "--role", "admin")
    code, output, error = command(*create, typed=f"{PASSWORD}\n")

    assert (code, error) == (0, "")
    [user] = rows(settings, "SELECT id, name, role, password_hash FROM users WHERE email = :email", email=email)
    assert output == f"created the admin {email} with the id {user.id}\n"
    assert (user.name, user.role) == ("Ada", "admin")
    assert PASSWORD not in user.password_hash
    sign_in = "mutation($i: SignInInput!) { signIn(input: $i) { user { role } token { scopes } errors { code } } }"
    answer = post(settings, sign_in, variables={"i": {"email": email, "password": PASSWORD}})
    assert answer["data"]["signIn"]["errors"] == []
    assert answer["data"]["signIn"]["user"] == {"role": "ADMIN"}
    assert "ADMIN" in answer["data"]["signIn"]["token"]["scopes"]


def test_an_account_is_made_in_the_name_of_the_system(
    command: Callable[..., Any], settings: Settings, email: str
) -> None:
    command("user", "create", "--email", email, "--name", "Ada", typed=PASSWORD)
    [user] = rows(settings, "SELECT id, role FROM users WHERE email = :email", email=email)
    changes = rows(settings, "SELECT action, actor_id, fields FROM changes WHERE entity_id = :id", id=user.id)

    assert user.role == "member"
    assert [(change.action, change.actor_id) for change in changes] == [("created", None)]
    assert PASSWORD not in str(changes)
    assert "password" not in str(changes)


@pytest.mark.parametrize(
    ("given", "typed", "said"),
    [
        (["--email", "ada", "--name", "Ada"], PASSWORD, "email must be an address such as ada@example.org."),
        (["--email", "a@b.c", "--name", " "], PASSWORD, "name must not be empty."),
        (["--email", "a@b.c", "--name", "Ada"], "short\n", "password must have at least 10 characters."),
        (["--email", "a@b.c", "--name", "Ada"], "", "password must have at least 10 characters."),
        (["--email", "a@b.c", "--name", "Ada"], "nul \0 in the middle", "password contains a character that cannot"),
    ],
)
def test_a_wrong_account_is_refused_in_one_line(
    command: Callable[..., Any], given: list[str], typed: str, said: str
) -> None:
    code, output, error = command("user", "create", *given, typed=typed)

    assert (code, output) == (1, "")
    assert error.startswith(f"taskstore: {said}")
    assert error.count("\n") == 1


def test_an_address_is_taken_once(command: Callable[..., Any], email: str) -> None:
    create = ("user", "create", "--email", email, "--name", "Ada")

    assert command(*create, typed=PASSWORD)[0] == 0
    assert command(*create, typed=PASSWORD) == (1, "", "taskstore: There is an account with this address already.\n")


def test_a_password_is_no_argument(command: Callable[..., Any], email: str) -> None:
    with pytest.raises(SystemExit) as refusal:
        command("user", "create", "--email", email, "--name", "Ada", "--password", PASSWORD)

    assert refusal.value.code == 2


def test_two_different_passwords_are_none(
    command: Callable[..., Any], email: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([PASSWORD, f"{PASSWORD}!"])
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: next(answers))
    code, _, error = command("user", "create", "--email", email, "--name", "Ada", typed=Terminal())

    assert (code, error) == (1, "taskstore: these were two different passwords\n")


def test_a_password_is_asked_for_without_echo(settings: Settings, email: str) -> None:
    terminal, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "graph", "user", "create", "--email", email, "--name", "Ada"],
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
    for question in (b"Password", b"again: "):
        while question not in shown:
            shown += os.read(terminal, 1000)
        os.write(terminal, f"{PASSWORD}\n".encode())
    while b"created" not in shown:
        shown += os.read(terminal, 1000)
    code = process.wait(30)
    os.close(terminal)

    assert code == 0
    assert PASSWORD.encode() not in shown


# Trusted documents

OPERATIONS = {
    "board/Board.graphql": "query Board { viewer { ...Person } }",
    "people/person.gql": "fragment Person on User { name email }\nfragment Unused on User { id }",
    "write.graphql": "mutation Rename($with: UpdateViewerInput!) { updateViewer(input: $with) { user { ...Person } } }",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in OPERATIONS.items():
        path = tmp_path / "client" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "client"


@pytest.fixture
def manifest(command: Callable[..., Any], folder: Path) -> Path:
    output = folder.parent / "trusted.json"
    assert command("schema", "--manifest", str(folder), "--output", str(output)) == (
        0,
        f"wrote 2 operations to {output}\n",
        "",
    )
    return output


def test_a_manifest_goes_to_standard_output_unless_a_file_is_named(
    command: Callable[..., Any], folder: Path, manifest: Path
) -> None:
    code, output, error = command("schema", "--manifest", str(folder))

    assert (code, error) == (0, "")
    assert output == manifest.read_text()
    operations = json.loads(output)["operations"]
    assert [operation["name"] for operation in operations] == ["Board", "Rename"]
    assert all(operation["id"] == digest(operation["body"]) for operation in operations)
    assert "Unused" not in output


def test_only_the_documents_of_the_manifest_are_executed(
    settings: Settings, manifest: Path, command: Callable[..., Any], email: str
) -> None:
    command("user", "create", "--email", email, "--name", "Ada", typed=PASSWORD)
    token = command("token", "create", "--email", email)[1].strip()
    board, rename = json.loads(manifest.read_text())["operations"]

    async def run() -> list[httpx.Response]:
        async with application(replace(settings, trusted_documents=manifest)) as client:
            return [
                await client.post("/graphql", json=request, headers={"Authorization": f"Bearer {token}"})
                for request in (
                    {"documentId": f"sha256:{board['id']}"},
                    {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": board["id"]}}},
                    {"query": board["body"]},
                    {"documentId": f"sha256:{rename['id']}", "variables": {"with": {"name": "Grace"}}},
                    {"query": "{ viewer { id } }"},
                    {"query": "{ viewer { id } }", "documentId": f"sha256:{board['id']}"},
                    {"documentId": f"sha256:{digest('{ viewer { id } }')}"},
                )
            ]

    answers = asyncio.run(run())
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 403, 403, 400]
    assert all(answer.json()["data"]["viewer"] == {"name": "Ada", "email": email} for answer in answers[:3])
    assert answers[3].json()["data"]["updateViewer"]["user"]["name"] == "Grace"
    errors = [answer.json()["errors"][0] for answer in answers[4:]]
    assert [error["extensions"]["code"] for error in errors] == [
        "DOCUMENT_NOT_TRUSTED",
        "DOCUMENT_NOT_TRUSTED",
        "PERSISTED_QUERY_NOT_FOUND",
    ]
    assert errors[0]["message"] == "Only the documents of this server's manifest are executed"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("query A { viewr { id } }", "A: Cannot query field 'viewr' on type 'Query'."),
        ("query { viewer { id } }", "every operation needs a name"),
        ("query A { viewer { ...B } }", "the fragment 'B' is not defined"),
        ("query A { viewer { id }", "Syntax Error"),
        ("query Board { viewer { id } }", "'Board' is also defined in"),
    ],
)
def test_operations_that_would_not_work_are_named(
    command: Callable[..., Any], folder: Path, content: str, said: str
) -> None:
    (folder / "other.graphql").write_text(content)
    code, output, error = command("schema", "--manifest", str(folder))

    assert (code, output) == (1, "")
    assert str(folder) in error
    assert said in error
    assert error.count("\n") == 1


def test_a_manifest_of_nothing_is_a_mistake(command: Callable[..., Any], tmp_path: Path) -> None:
    assert "has no .graphql or .gql file" in command("schema", "--manifest", str(tmp_path))[2]
    assert "is no directory" in command("schema", "--manifest", str(tmp_path / "gone"))[2]
    assert "--output goes with --manifest" in command("schema", "--check", "--output", "x")[2]


def test_a_manifest_that_cannot_be_written_is_told(command: Callable[..., Any], folder: Path) -> None:
    code, _, error = command("schema", "--manifest", str(folder), "--output", str(folder))

    assert (code, error) == (1, f"taskstore: cannot write {folder}: Is a directory\n")


def test_a_server_does_not_start_on_a_wrong_manifest(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trusted.json"
    path.write_text("[]")
    monkeypatch.setenv("TASKSTORE_TRUSTED_DOCUMENTS", str(path))

    assert command("serve", "--port", "0") == (
        1,
        "",
        f"taskstore: TASKSTORE_TRUSTED_DOCUMENTS: {path}: must be a JSON object of identifiers and texts\n",
    )


def test_the_documents_of_a_manifest_have_the_limits_of_others(settings: Settings, manifest: Path) -> None:
    app = create_app(replace(settings, trusted_documents=manifest, max_depth=1))
    board = json.loads(manifest.read_text())["operations"][0]

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/graphql", json={"documentId": f"sha256:{board['id']}"})

    [error] = asyncio.run(run()).json()["errors"]
    assert error["extensions"]["code"] == "LIMIT_EXCEEDED"
