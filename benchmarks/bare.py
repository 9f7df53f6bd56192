"""No GraphQL: an ASGI application with one hand-written statement for each operation, which builds the whole answer.

It is what the other servers are measured against. It understands the texts of `benchmarks.peers.entry.QUERIES` and
nothing else, and it checks the token as the real one does: once in five seconds. It writes what the real one writes.

    DATABASE_URL=... python -m benchmarks.bare     prints `ready: http://127.0.0.1:<port>`
"""

import asyncio
import gc
import hashlib
import os
import socket
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
import orjson
import uvicorn

from benchmarks.peers.entry import CONNECTIONS, QUERIES
from persistence.models.ids import new_id

TOKEN_CACHE_SECONDS = 5.0

VIEWER = """
SELECT u.id FROM tokens t JOIN users u ON u.id = t.user_id
WHERE t.secret_hash = $1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())
  AND u.role = 'admin' AND t.scopes @> '{read,write,admin}'
"""

ROW = """
t.id, t.title, t.description, upper(t.status) AS status, upper(t.priority) AS priority, t.due_at AS "dueAt",
t.completed_at AS "completedAt", t.version, t.created_at AS "createdAt", t.updated_at AS "updatedAt"
"""
OF_OWNER = "FROM tasks t WHERE t.owner_id = u.id AND t.deleted_at IS NULL ORDER BY t.created_at DESC, t.id DESC"


def nodes(name: str, rows: str) -> str:
    """A connection's `nodes`, as a JSON object."""
    return f"json_build_object('nodes', (SELECT coalesce(json_agg(r), '[]') FROM ({rows}) r)) AS {name}"


def answer(name: str, value: str) -> str:
    return f"SELECT json_build_object('data', json_build_object('{name}', ({value})))"


TASK = answer(
    "task",
    """SELECT json_build_object('id', t.id, 'title', t.title, 'status', upper(t.status), 'priority', upper(t.priority),
                                'owner', json_build_object('id', u.id, 'name', u.name))
       FROM tasks t JOIN users u ON u.id = t.owner_id WHERE t.id = $1""",
)
LIST = answer(
    "tasks",
    "SELECT "
    + nodes(
        "tasks",
        f"""SELECT {ROW} FROM tasks t WHERE t.owner_id = $1 AND t.status = $2 AND t.deleted_at IS NULL
            ORDER BY t.created_at DESC, t.id DESC LIMIT 50""",
    ),
)
PEOPLE = answer(
    "users",
    "SELECT "
    + nodes(
        "users",
        f"""SELECT u.id, u.name, n.tasks
            FROM (SELECT id, name, email FROM users WHERE email > $1 ORDER BY email LIMIT 50) u,
                 LATERAL (SELECT {nodes("tasks", f"SELECT {ROW} {OF_OWNER} LIMIT 20")}) n
            ORDER BY u.email""",
    ),
)
NEWEST = nodes("tasks", f"SELECT t.id, t.title, upper(t.status) AS status {OF_OWNER} LIMIT 5")
OWNERS = answer(
    "tasks",
    "SELECT "
    + nodes(
        "tasks",
        f"""SELECT t.id, t.title, json_build_object('id', u.id, 'name', u.name, 'tasks', n.tasks) AS owner
            FROM (SELECT id, title, owner_id, created_at FROM tasks WHERE created_at < $1 AND deleted_at IS NULL
                  ORDER BY created_at DESC, id DESC LIMIT 50) t
            JOIN users u ON u.id = t.owner_id,
                 LATERAL (SELECT {NEWEST}) n
            ORDER BY t.created_at DESC, t.id DESC""",
    ),
)
CREATE = f"""
WITH t AS (
    INSERT INTO tasks (id, owner_id, title, description, priority, tags, due_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
    RETURNING *
), logged AS (
    INSERT INTO changes (id, entity, entity_id, owner_id, actor_id, action, version, fields)
    SELECT $8, 'Task', id, owner_id, $9, 'created', version, $10 FROM t
), kept AS (
    INSERT INTO idempotency_keys (scope_id, key_hash, input_hash, answer)
    SELECT $9, $11, $12, jsonb_build_object('task', to_jsonb(t) - 'search') FROM t
)
SELECT json_build_object('data', json_build_object('createTask', json_build_object('task', (
    SELECT r FROM (SELECT {ROW} FROM t) r))))
"""

Values = dict[str, Any]


def creation(values: Values, viewer: Any, body: bytes) -> tuple[Any, ...]:
    given = values["input"]
    key = given.pop("idempotencyKey")
    fields = orjson.dumps({name: [None, value] for name, value in given.items()}).decode()
    return (
        new_id(),
        given["ownerId"],
        given["title"],
        given["description"],
        given["priority"].lower(),
        given["tags"],
        datetime.fromisoformat(given["dueAt"]),
        new_id(),
        viewer,
        fields,
        hashlib.sha256(key.encode()).digest(),
        hashlib.sha256(body).digest(),
    )


PLANS: dict[str, tuple[str, Callable[[Values, Any, bytes], tuple[Any, ...]]]] = {
    QUERIES["Q1"]: (TASK, lambda values, viewer, body: (values["id"],)),
    QUERIES["Q2"]: (LIST, lambda values, viewer, body: (values["owner"], values["status"].lower())),
    QUERIES["Q3"]: (PEOPLE, lambda values, viewer, body: (values["after"],)),
    QUERIES["Q4"]: (CREATE, creation),
    QUERIES["Q5"]: (OWNERS, lambda values, viewer, body: (datetime.fromisoformat(values["before"]),)),
}


class Bare:
    """The application. One connection for each request that is being answered, at most `CONNECTIONS`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.idle: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        self.viewers: dict[bytes, tuple[Any, float]] = {}

    async def start(self) -> None:
        for _ in range(CONNECTIONS):
            connection = await asyncpg.connect(self.url)
            await connection.set_type_codec("json", schema="pg_catalog", encoder=bytes, decoder=bytes, format="binary")
            self.idle.put_nowait(connection)
        gc.collect()
        gc.freeze()

    @asynccontextmanager
    async def connection(self) -> Any:
        connection = await self.idle.get()
        try:
            yield connection
        finally:
            self.idle.put_nowait(connection)

    async def viewer(self, headers: list[tuple[bytes, bytes]]) -> Any:
        """The admin whose token was sent, or None."""
        sent = dict(headers).get(b"authorization", b"")
        known, until = self.viewers.get(sent, (None, 0.0))
        if time.monotonic() < until:
            return known
        async with self.connection() as connection:
            found = await connection.fetchval(VIEWER, hashlib.sha256(sent.removeprefix(b"Bearer ")).digest())
        if found is not None:
            self.viewers[sent] = found, time.monotonic() + TOKEN_CACHE_SECONDS
        return found

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        body = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        viewer = await self.viewer(scope["headers"])
        if viewer is None:
            status, payload = 401, b"{}"
        else:
            request = orjson.loads(body)
            sql, arguments = PLANS[request["query"]]
            async with self.connection() as connection:
                payload = await connection.fetchval(sql, *arguments(request["variables"], viewer, body))
            status = 200
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": payload})


async def serve() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    app = Bare(os.environ["DATABASE_URL"])
    await app.start()
    config = uvicorn.Config(
        app,
        http="httptools",
        lifespan="off",
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    print(f"ready: http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve())
