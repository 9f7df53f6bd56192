"""A server process whose clients take what they can: it stays small, and others are served."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.outside import PASSWORD, PATIENCE, SIGN_IN, SIGN_UP, Client, Server, running, signed_up

pytestmark = pytest.mark.anyio

PROTOCOL = Subprotocol("graphql-transport-ws")
ELSEWHERE = httpx.AsyncHTTPTransport(local_address="127.0.0.2")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("door") / "data", TASKSTORE_HEAD_TIMEOUT="1") as server:
        yield server


@pytest.fixture
async def ada(server: Server) -> AsyncIterator[Client]:
    async with signed_up(server, "Ada") as [client]:
        yield client


def memory(server: Server) -> int:
    """Resident bytes of the server process."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def wire(server: Server, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    connection.sendall(sent)
    return connection


async def test_a_head_of_300_megabytes_takes_no_memory(server: Server, ada: Client) -> None:
    before, offered = memory(server), 0

    def offer() -> None:
        nonlocal offered
        with wire(server, b"POST /graphql HTTP/1.1\r\nHost: localhost\r\n") as connection:
            try:
                while offered < 300_000_000:
                    offered += connection.send(b"X-Padding: " + b"x" * 60_000 + b"\r\n")
            except ConnectionError:
                return

    await anyio.to_thread.run_sync(offer)

    assert offered < 30_000_000
    assert memory(server) < before + 50_000_000
    assert (await ada.post("{ viewer { id } }")).status_code == 200


@pytest.mark.parametrize(
    "half",
    [
        b"",
        b"GET /graphql HTTP/1.1\r\nHost: local",
        b"\r\n\r\n",
        b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n",
    ],
    ids=["nothing", "half a line", "empty lines", "no body"],
)
async def test_half_a_request_does_not_stay_open(server: Server, half: bytes) -> None:
    def ended() -> bytes:
        with wire(server, half) as connection:
            return connection.recv(65_536)

    assert (await anyio.to_thread.run_sync(ended))[9:12] in (b"", b"408")


async def test_a_thousand_half_requests_shut_nobody_out(server: Server, ada: Client) -> None:
    held = [await anyio.to_thread.run_sync(wire, server, b"GET /graphql HT") for _ in range(1_000)]
    async with httpx.AsyncClient(base_url=server.address, timeout=PATIENCE) as http:
        new = await http.post("/graphql", json={"query": "{ __typename }"})
    async with httpx.AsyncClient(base_url=server.address, timeout=PATIENCE, transport=ELSEWHERE) as http:
        elsewhere = await http.post("/graphql", json={"query": "{ __typename }"})
    for connection in held:
        connection.close()

    assert [new.status_code, elsewhere.status_code, (await ada.post("{ viewer { id } }")).status_code] == [200] * 3


async def test_a_thousand_anonymous_sockets_shut_nobody_out(server: Server, ada: Client) -> None:
    address = f"ws://127.0.0.1:{server.port}/graphql"

    async def opened(**payload: Any) -> ClientConnection:
        connection = await connect(address, subprotocols=[PROTOCOL], compression=None, ping_interval=None, proxy=None)
        await connection.send(json.dumps({"type": "connection_init", "payload": payload}))
        return connection

    first = await opened(Authorization=f"Bearer {ada.secret}")
    assert json.loads(await first.recv()) == {"type": "connection_ack"}
    held = [await opened() for _ in range(1_000)]
    second = await opened(Authorization=f"Bearer {ada.secret}")
    for connection in (first, second):
        await connection.send(json.dumps({"type": "subscribe", "id": "1", "payload": {"query": "{ viewer { id } }"}}))
        said = [json.loads(await connection.recv()) for _ in range(2 if connection is first else 3)]
        assert {"data": {"viewer": {"id": ada.id}}}.items() <= said[-2]["payload"].items()
    async with httpx.AsyncClient(base_url=server.address, timeout=PATIENCE) as http:
        assert (await http.get("/livez")).status_code == 200
    for connection in [*held, first, second]:
        connection.transport.abort()


async def test_twelve_right_passwords_at_once_are_all_let_in_and_twelve_wrong_ones_are_not_all_looked_at(
    server: Server, ada: Client
) -> None:
    async def code(password: str) -> str:
        answer = await ada(SIGN_IN, input={"email": ada.email, "password": password})
        return answer["errors"][0]["code"] if answer["errors"] else "IN"

    right = await asyncio.gather(*(code(PASSWORD) for _ in range(12)))
    wrong = await asyncio.gather(*(code("not the password") for _ in range(12)))

    assert right == ["IN"] * 12
    assert set(wrong) == {"SIGN_IN_THROTTLED", "WRONG_CREDENTIALS"}
    assert wrong.count("WRONG_CREDENTIALS") in (5, 6, 7)  # slow hashes take the seconds that the next must wait


async def test_an_address_makes_so_many_accounts_and_proxies_tell_addresses_apart(tmp_path: Path) -> None:
    variables = {"TASKSTORE_SIGN_UPS_PER_HOUR": "2", "TASKSTORE_TRUSTED_PROXIES": "127.0.0.1"}
    with running(tmp_path / "data", **variables) as server:
        async with httpx.AsyncClient(base_url=server.address, timeout=PATIENCE) as http:

            async def sign_up(**headers: str) -> str:
                given = {"email": Client(server.address).email, "name": "Ada", "password": PASSWORD}
                body = {"query": SIGN_UP, "variables": {"input": given}}
                payload = (await http.post("/graphql", json=body, headers=headers)).json()["data"]["signUp"]
                return payload["errors"][0]["code"] if payload["errors"] else "MADE"

            direct = [await sign_up() for _ in range(3)]
            one = [await sign_up(**{"X-Forwarded-For": f"2001:db8::{n}, 2001:db8:0:7::{n}"}) for n in range(1, 4)]
            another = await sign_up(**{"X-Forwarded-For": "2001:db8:0:8::1"})

    assert direct == one == ["MADE", "MADE", "SIGN_UP_THROTTLED"]
    assert another == "MADE"
