"""Two server processes on one store: each remembers tokens for itself, and neither acts on what was taken away."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.outside import PASSWORD, PATIENCE, ROOT, Client, Server, running, signed_up

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("processes")]

VIEWER = "{ viewer { id role } }"
REQUESTS = 24  # each on a connection of its own: so many all going to one process happens once in eight million runs
SET_ROLE = """mutation($id: ID!, $role: UserRole!) {
    updateUser(input: {id: $id, role: $role}) { user { role } errors { code } } }"""
NEW_TOKEN = 'mutation { createToken(input: {name: "for ever", scopes: [READ, WRITE]}) { secret errors { code } } }'
REVOKE = "mutation($id: ID!) { revokeToken(input: {id: $id}) { token { id } errors { code } } }"
SESSION = """mutation($input: SignInInput!) { signIn(input: $input) { secret token { id } } }"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("two") / "data"
    with running(directory, TASKSTORE_WORKERS="2", TASKSTORE_TOKEN_CACHE_SECONDS="600") as server:
        yield server


def set_role(server: Server, email: str, role: str) -> None:
    environment = {**os.environ, "DATABASE_URL": "", "TASKSTORE_DATA_DIR": str(server.data_dir)}
    command = [sys.executable, "-m", "graph", "user", "set-role", "--email", email, "--role", role]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=PATIENCE)


async def anywhere(client: Client, query: str, **variables: Any) -> list[Any]:
    """The answers to many requests, which both processes get."""
    answers = []
    for _ in range(REQUESTS):
        async with httpx.AsyncClient(base_url=client.http.base_url, timeout=PATIENCE) as http:
            http.headers["Authorization"] = f"Bearer {client.secret}"
            answers.append((await http.post("/graphql", json={"query": query, "variables": variables})).json())
    return answers


def refusals(answers: list[Any], field: str) -> set[str]:
    """The codes of requests none of which may have done anything."""
    codes = set()
    for answer in answers:
        payload = (answer.get("data") or {}).get(field)
        errors = payload["errors"] if payload else [error["extensions"] for error in answer["errors"]]
        assert errors, answer
        codes |= {error["code"] for error in errors}
    return codes


async def test_a_demoted_admin_is_no_admin_in_any_process(server: Server) -> None:
    async with signed_up(server, "Ada", "Eve") as [ada, eve]:
        for client in (ada, eve):
            set_role(server, client.email, "ADMIN")
            await client.sign_in()
        known = await anywhere(eve, VIEWER)
        assert [answer["data"]["viewer"]["role"] for answer in known] == ["ADMIN"] * REQUESTS
        done = await ada(SET_ROLE, id=eve.id, role="MEMBER")
        assert done["errors"] == []

        assert refusals(await anywhere(eve, SET_ROLE, id=eve.id, role="ADMIN"), "updateUser") == {"FORBIDDEN"}
        assert (await eve(VIEWER))["role"] == "MEMBER"


async def test_a_revoked_token_makes_no_other_in_any_process(server: Server) -> None:
    async with signed_up(server, "Ada") as [ada]:
        stolen = Client(server.address)
        session = await ada(SESSION, input={"email": ada.email, "password": PASSWORD})
        stolen.use(session["secret"])
        async with stolen.http:
            assert all(answer["data"]["viewer"] for answer in await anywhere(stolen, VIEWER))
            assert (await ada(REVOKE, id=session["token"]["id"]))["errors"] == []

            assert refusals(await anywhere(stolen, NEW_TOKEN), "createToken") == {"UNAUTHENTICATED"}
