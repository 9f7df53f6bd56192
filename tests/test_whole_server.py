"""The whole server as its users have it: a process with a database of its own, and a plain HTTP client.

Nothing of the project is imported here. The process is killed, its database is killed, and what a client was told to
be saved must be there, once.
"""

import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest

from tests.outside import (
    CREATE,
    DELETE,
    PAGE,
    PASSWORD,
    PATIENCE,
    RESTORE,
    SIGN_IN,
    TASK,
    TITLES,
    UPDATE,
    Client,
    Server,
    Unavailable,
    is_alive,
    running,
    signed_up,
    until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("processes")]


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For the tests that leave it alive; each brings users of its own."""
    with running(tmp_path_factory.mktemp("whole") / "data") as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """For the tests that kill something."""
    with running(tmp_path / "data") as server:
        yield server


# What people do


async def test_a_list_is_filtered_sorted_searched_and_paged_in_both_directions(shared_server: Server) -> None:
    async with signed_up(shared_server, "Ada") as [ada]:
        for number in range(12):
            await ada.create(
                f"Task {number:02}",
                priority=["LOW", "URGENT", "HIGH"][number % 3],
                tags=["home"] if number % 2 else ["work", "Deep Work"],
                dueAt=None if number % 4 == 0 else f"2031-01-{number + 1:02}T09:00:00+01:00",
                description="The quarterly report for Babbage" if number == 5 else "",
            )
        everything = [f"Task {number:02}" for number in range(12)]
        by_title = [{"field": "TITLE"}]

        assert await ada.titles() == everything[::-1]
        assert await ada.titles(filter={"priority": {"eq": "URGENT"}}, orderBy=by_title) == everything[1::3]
        tagged = {"and": [{"tags": {"hasAll": ["deep work"]}}, {"not": {"dueAt": {"isNull": True}}}]}
        assert await ada.titles(filter=tagged, orderBy=by_title) == ["Task 02", "Task 06", "Task 10"]
        assert await ada.titles(filter={"or": []}) == []
        assert await ada.titles(search="quarter babbage") == ["Task 05"]
        assert await ada.titles(search="quarter -babbage") == []
        for order in ([{"field": "DUE", "nulls": "FIRST"}], [{"field": "PRIORITY", "direction": "DESC"}], None):
            at_once = await ada.walk(100, orderBy=order)
            assert sorted(task["title"] for task in at_once) == everything
            assert await ada.walk(5, orderBy=order) == at_once
            assert await ada.walk(5, backwards=True, orderBy=order) == at_once


async def test_an_edit_of_an_old_version_is_refused_with_the_current_one(shared_server: Server) -> None:
    async with signed_up(shared_server, "Ada") as [ada]:
        task = await ada.create("Draft")
        edited = await ada(UPDATE, input={"id": task["id"], "ifVersion": 1, "title": "Final", "addTags": ["done"]})
        stale = await ada(UPDATE, input={"id": task["id"], "ifVersion": 1, "title": "Draft again"})

        assert edited["task"] == {
            "id": task["id"], "title": "Final", "status": "TODO", "tags": ["done"], "version": 2
        }  # fmt: skip
        (error,) = stale["errors"]
        assert (error["__typename"], error["currentVersion"]) == ("ConflictError", 2)
        assert error["current"] == {"id": task["id"], "title": "Final"}
        assert await ada(TASK, id=task["id"]) == {"id": task["id"], "title": "Final", "version": 2}


async def test_of_clients_that_edit_one_version_at_once_exactly_one_wins(shared_server: Server) -> None:
    async with signed_up(shared_server, "Ada") as [ada]:
        phone, laptop = Client(shared_server.address), Client(shared_server.address)
        async with phone.http, laptop.http:
            for client in (phone, laptop):
                client.email = ada.email
                await client.sign_in()
            task = await ada.create("0")
            for version in range(1, 11):
                answers: list[Any] = []

                async def edit(client: Client, version: int = version, answers: list[Any] = answers) -> None:
                    change = {"id": task["id"], "ifVersion": version, "title": f"{version} of {client.secret[-4:]}"}
                    answers.append(await client(UPDATE, input=change))

                async with anyio.create_task_group() as group:
                    group.start_soon(edit, phone)
                    group.start_soon(edit, laptop)
                won = [answer["task"] for answer in answers if not answer["errors"]]
                (lost,) = [answer["errors"][0]["__typename"] for answer in answers if answer["errors"]]
                assert (len(won), lost) == (1, "ConflictError")
                assert await laptop(TASK, id=task["id"]) == {
                    "id": task["id"], "title": won[0]["title"], "version": version + 1
                }  # fmt: skip


async def test_a_retry_with_the_same_key_creates_once_and_another_input_is_refused(shared_server: Server) -> None:
    async with signed_up(shared_server, "Ada") as [ada]:
        given = {"title": "Once", "idempotencyKey": str(uuid4())}
        first = await ada(CREATE, input=given)
        again = await ada(CREATE, input=given)
        other = await ada(CREATE, input=given | {"title": "Twice"})

        assert (first["replayed"], again["replayed"]) == (False, True)
        assert first["task"] == again["task"]
        assert [error["__typename"] for error in other["errors"]] == ["IdempotencyError"]
        assert await ada.titles() == ["Once"]


async def test_a_deleted_task_is_in_the_trash_until_it_is_restored(shared_server: Server) -> None:
    async with signed_up(shared_server, "Ada") as [ada]:
        kept, thrown = await ada.create("Kept"), await ada.create("Thrown")
        deleted = await ada(DELETE, input={"id": thrown["id"], "ifVersion": 1})
        without, with_trash = await ada.titles(), await ada.titles(trash="INCLUDE")
        restored = await ada(RESTORE, input={"id": thrown["id"]})

        assert deleted["errors"] == []
        assert deleted["task"]["deletedAt"] is not None
        assert (without, with_trash) == (["Kept"], ["Thrown", "Kept"])
        assert restored["task"] == {"id": thrown["id"], "title": "Thrown", "version": 3, "deletedAt": None}
        assert await ada.titles() == ["Thrown", "Kept"]
        assert await ada(TASK, id=kept["id"]) == kept


async def test_users_never_see_each_others_tasks(shared_server: Server) -> None:
    async with signed_up(shared_server, "Ada", "Bob") as [ada, bob]:
        secret = await ada.create("Ada's own")
        missing = str(uuid4())

        async def as_bob(id: str) -> list[Any]:
            """All that Bob learns of an id, without the id itself."""
            learned = [
                await bob.post(TASK, id=id),
                await bob.post("query($id: ID!) { node(id: $id) { id __typename } }", id=id),
                await bob.post("query($id: ID!) { nodes(ids: [$id]) { id } }", id=id),
                await bob.post(TITLES, filter={"id": {"eq": id}}),
                await bob.post(UPDATE, input={"id": id, "title": "Mine"}),
                await bob.post(UPDATE, input={"id": id, "ifVersion": 7, "title": "Mine"}),
                await bob.post(DELETE, input={"id": id}),
                await bob.post(RESTORE, input={"id": id}),
            ]
            return [(answer.status_code, answer.text.replace(id, "ID")) for answer in learned]

        def without_budget(answers: list[Any]) -> list[Any]:
            return [(status, {**json.loads(body), "extensions": None}) for status, body in answers]

        assert without_budget(await as_bob(secret["id"])) == without_budget(await as_bob(missing))
        assert await bob.titles(search="own") == []
        assert await bob.titles(filter={"owner": {"id": {"eq": ada.id}}}) == []
        assert await bob("query($id: ID!) { user(id: $id) { id } }", id=ada.id) is None
        refused = await bob(CREATE, input={"title": "For her", "ownerId": ada.id})
        assert refused["task"] is None
        assert await ada.titles() == ["Ada's own"]


async def test_nobody_sees_anything_without_a_token(shared_server: Server) -> None:
    async with httpx.AsyncClient(base_url=shared_server.address) as http:
        answer = await http.post("/graphql", json={"query": "{ tasks { nodes { id } } }"})
        bad = await http.post(
            "/graphql", json={"query": "{ viewer { id } }"}, headers={"Authorization": "Bearer ts_unknown"}
        )

    assert [error["extensions"]["code"] for error in answer.json()["errors"]] == ["UNAUTHENTICATED"]
    assert (bad.status_code, bad.headers["www-authenticate"].split()[0]) == (401, "Bearer")


# HTTP


async def test_graphql_is_at_its_path_without_a_redirect(shared_server: Server) -> None:
    async with httpx.AsyncClient(base_url=shared_server.address) as http:
        posted = await http.post("/graphql", json={"query": "{ __typename }"})
        got = await http.get("/graphql", params={"query": "{ __typename }"})

    assert [posted.status_code, got.status_code] == [200, 200]
    assert [posted.json()["data"], got.json()["data"]] == [{"__typename": "Query"}] * 2


async def test_a_mutation_by_get_is_refused_and_does_nothing(shared_server: Server) -> None:
    async with signed_up(shared_server, "Ada") as [ada]:
        mutation = 'mutation { createTask(input: {title: "By GET"}) { task { id } } }'
        answer = await ada.http.get("/graphql", params={"query": mutation})

        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert await ada.titles() == []


async def test_the_health_endpoints_say_that_all_is_well(shared_server: Server) -> None:
    async with httpx.AsyncClient(base_url=shared_server.address) as http:
        alive, ready, health = [await http.get(path) for path in ("/livez", "/readyz", "/healthz")]

    assert [alive.status_code, ready.status_code, health.status_code] == [200, 200, 200]
    revision = health.json()["revision"]
    assert revision["current"] == revision["needed"] != ""
    assert health.json()["pool"]["size"] == 5


# What goes wrong


class Writing:
    """Clients that create tasks with keys and remember what was acknowledged and what was not."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.acknowledged: dict[str, str] = {}
        self.unanswered: list[str] = []
        self.replayed = 0
        self.stopped = False

    async def create(self, key: str) -> bool:
        """Whether the task of a key was acknowledged; its title is the key, so that one made twice shows."""
        try:
            done = await self.client(CREATE, input={"title": key, "idempotencyKey": key})
        except (httpx.TransportError, Unavailable):
            return False
        assert done["errors"] == []
        self.replayed += done["replayed"]
        assert self.acknowledged.setdefault(key, done["task"]["id"]) == done["task"]["id"]
        return True

    async def go_on(self, *, patient: bool) -> None:
        """Create until told to stop; who is not `patient` stops at the first request without an answer."""
        while not self.stopped:
            key = str(uuid4())
            if await self.create(key):
                continue
            self.unanswered.append(key)
            if not patient:
                return
            await anyio.sleep(0.01)

    async def retry(self) -> None:
        for key in self.unanswered:
            assert await self.create(key)

    async def found_once(self) -> None:
        """Everything acknowledged is there, once, under the id that was told, and nothing else."""
        found = await self.client.walk(100, orderBy=[{"field": "TITLE"}])
        assert {task["title"]: task["id"] for task in found} == self.acknowledged
        assert len(found) == len(self.acknowledged)


@pytest.mark.parametrize("with_database", [False, True], ids=["server", "server and database"])
async def test_what_was_acknowledged_before_kill_9_is_there_exactly_once(server: Server, with_database: bool) -> None:
    async with signed_up(server, "Ada") as [ada]:
        writing = Writing(ada)
        postmaster = server.postmaster
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(lambda: writing.go_on(patient=False))
            await until(lambda: len(writing.acknowledged) >= 60)
            if with_database:
                os.kill(postmaster, signal.SIGKILL)
            server.kill()
        await until(lambda: not is_alive(postmaster))
        server.start()
        await writing.retry()
        before = len(writing.acknowledged)
        for key in list(writing.acknowledged)[:5]:
            assert await writing.create(key)

        assert len(writing.unanswered) > 0
        assert len(writing.acknowledged) == before
        await writing.found_once()


async def test_a_dead_database_is_told_as_unavailable_and_comes_back_by_itself(server: Server) -> None:
    async with signed_up(server, "Ada") as [ada]:
        await ada.create("Before")
        writing = Writing(ada)
        seen: dict[str, set[Any]] = {"livez": set(), "readyz": set(), "graphql": set()}
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(lambda: writing.go_on(patient=True))
            await until(lambda: len(writing.acknowledged) >= 20)
            postmaster = 0
            deadline = time.monotonic() + PATIENCE
            # The database is back within a second, so it is killed again until every answer has been seen.
            while not (503 in seen["readyz"] and any("UNAVAILABLE" in codes for codes in seen["graphql"])):
                assert time.monotonic() < deadline, seen
                if server.postmaster not in (0, postmaster):
                    postmaster = server.postmaster
                    with suppress(ProcessLookupError):
                        os.kill(postmaster, signal.SIGKILL)
                for path in ("livez", "readyz"):
                    seen[path].add((await ada.http.get(f"/{path}")).status_code)
                answer = await ada.post("{ viewer { id } }")
                errors = answer.json().get("errors", [])
                seen["graphql"].add((answer.status_code, *(error["extensions"]["code"] for error in errors)))
            await until(lambda: is_ready(ada))
            writing.stopped = True
        await writing.retry()

        assert seen["livez"] == {200}
        # 503 when nothing could be done, 200 when it was one nullable field that could not be read.
        assert seen["graphql"] <= {(200,), (200, "UNAVAILABLE"), (503, "UNAVAILABLE")}
        writing.acknowledged["Before"] = (await ada(PAGE, last=1))["nodes"][0]["id"]
        await writing.found_once()


async def is_ready(client: Client) -> bool:
    return (await client.http.get("/readyz")).status_code == 200


async def test_a_request_in_flight_is_answered_after_sigterm(server: Server) -> None:
    async with signed_up(server, "Ada") as [ada]:
        postmaster = server.postmaster
        body = json.dumps({"query": CREATE, "variables": {"input": {"title": "In flight"}}}).encode()
        answers: list[httpx.Response] = []
        half_sent = anyio.Event()
        terminated = anyio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield body[:20]
            half_sent.set()
            await terminated.wait()
            yield body[20:]

        async def post() -> None:
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
            answers.append(await ada.http.post("/graphql", content=slowly(), headers=headers))

        async with anyio.create_task_group() as group:
            group.start_soon(post)
            await half_sent.wait()
            await anyio.sleep(0.2)  # on its way through the loopback
            server.terminate()
            await anyio.sleep(0.3)
            terminated.set()

        began = time.monotonic()
        assert await anyio.to_thread.run_sync(server.wait) == 0
        assert time.monotonic() - began < 15
        (answer,) = answers
        assert answer.json()["data"]["createTask"]["errors"] == []
        assert not is_alive(postmaster)
        server.start()
        assert await ada.titles() == ["In flight"]


async def test_no_secret_is_in_the_log(shared_server: Server) -> None:
    async with signed_up(shared_server, "Ada Lovelace-King") as [ada]:
        await ada.create("A very private thing")
        wrong = await ada(SIGN_IN, input={"email": ada.email, "password": "not-the-password"})
        assert [error["code"] for error in wrong["errors"]] == ["WRONG_CREDENTIALS"]
    log = shared_server.log.read_text() + (shared_server.data_dir / "postgres.log").read_text()
    assert f'"viewer": "{ada.id}"' in log
    for secret in (ada.secret, ada.email, PASSWORD, "not-the-password", "very private", "Lovelace"):
        assert secret not in log
