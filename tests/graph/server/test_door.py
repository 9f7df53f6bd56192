"""What a client may take of the server before anybody knows who it is: bytes, time and connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from websockets.asyncio.client import connect

from graph.server import door
from graph.server.door import DOOR, Allowance, Door, allowed_connections
from graph.transport.addresses import Proxies
from tests.execution.serving import served, until

pytestmark = pytest.mark.anyio

PATIENT = Allowance(head=8_192, headers=20, head_seconds=30.0, body_seconds=30.0)
HURRIED = Allowance(head=8_192, head_seconds=0.2, body_seconds=0.3)
GET = b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass
class Echo:
    """Answers with the path, or with the body after reading it; `/wait` waits, `/large` answers much.

    A WebSocket is held open, and closed at once at `/close`.
    """

    door: Door
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["state"][DOOR] = self.door
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            if scope["path"] == "/close":
                self.asked.append(scope["path"])
                await send({"type": "websocket.close", "code": 4_403})
            while (await receive())["type"] != "websocket.disconnect":
                pass
        else:
            await self.answer(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope["path"])
        body = scope["path"].encode()
        if scope["path"] == "/wait":
            await self.go_on.wait()
        elif scope["path"] == "/large":
            body = b"x" * 30_000_000
        elif scope["path"] == "/read":
            body = b""
            message: Message = {"more_body": True}
            while message.get("more_body"):
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body += message.get("body", b"")
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@dataclass
class Server:
    app: Echo
    host: str
    port: int
    wires: list["Wire"] = field(default_factory=list)

    async def open(self, sent: bytes = b"", origin: str = "127.0.0.1") -> "Wire":
        reader, writer = await asyncio.open_connection(self.host, self.port, local_addr=(origin, 0))
        wire = Wire(reader, writer)
        self.wires.append(wire)
        if sent:
            writer.write(sent)
        return wire

    async def ask(self, sent: bytes, origin: str = "127.0.0.1") -> tuple[int, bytes]:
        wire = await self.open(sent, origin)
        try:
            return await wire.answer()
        finally:
            wire.close()


@dataclass
class Wire:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer."""
        async with asyncio.timeout(20):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            return int(head.split()[1]), await self.reader.readexactly(length)

    async def ended(self) -> bytes:
        """What came before the server closed the connection."""
        async with asyncio.timeout(20):
            try:
                return await self.reader.read(-1)
            except ConnectionError:
                return b""

    def close(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def serving(bounds: Allowance = PATIENT, proxies: str = "") -> AsyncIterator[Server]:
    app = Echo(Door(bounds, Proxies.of(proxies)))
    protocols = {"http": "graph.server.sockets:HttpProtocol", "ws": "graph.server.sockets:WebSocketProtocol"}
    async with served(app, lifespan="on", **protocols) as address:
        host, _, port = address.rpartition(":")
        server = Server(app, host, int(port))
        try:
            yield server
        finally:
            app.go_on.set()
            for wire in server.wires:
                wire.close()
            await until(lambda: len(app.door) == 0)


@pytest.fixture(autouse=True)
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(door, "CLOSE_SECONDS", 0.2)


# -- bytes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "part", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"x" * 65_536, 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n" * 10_000, 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X" * 65_536, 431),
        (b"GET /", b"x" * 65_536, 414),
        (b"GET ", b"x" * 65_536, 400),
        (b"", b"\r\n" * 30_000, 431),
        (b"POST /read HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 65_536, 431),
        (b"POST /read HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"x" * 65_536, 431),
        (
            b"POST /read HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"X: y\r\n" * 10_000,
            431,
        ),
        (b"POST /read HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000, 431),
    ],
    ids=["value", "headers", "name", "URL", "no URL", "empty lines", "extension", "trailer", "trailers", "tiny chunks"],
)
async def test_a_head_without_an_end_is_refused_soon(start: bytes, part: bytes, status: int) -> None:
    """300 MB are offered; a few buffers are taken."""
    async with serving() as server:
        wire = await server.open(start)
        answer = asyncio.create_task(wire.ended())
        offered = 0
        while not answer.done() and offered < 300_000_000:
            wire.writer.write(part)
            offered += len(part)
            try:
                async with asyncio.timeout(20):
                    await wire.writer.drain()
            except ConnectionError:
                break
            await asyncio.sleep(0)
        said = await answer
        wire.close()
        assert await server.ask(GET % b"next") == (200, b"/next")

    assert offered < 20_000_000
    assert said.split()[1:2] in ([str(status).encode()], [])  # what was sent after the refusal may reset the connection


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 8_000 + b"\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 8_300 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 8_300 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 19 + b"\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 200),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 200),
    ],
)
async def test_what_a_head_may_be(head: bytes, status: int) -> None:
    async with serving() as server:
        assert (await server.ask(head))[0] == status


@pytest.mark.parametrize("size", [1, 7])
async def test_a_request_in_small_packets_is_answered(size: int) -> None:
    request = b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello" + GET % b"next"
    async with serving() as server:
        wire = await server.open()
        for at in range(0, len(request), size):
            wire.writer.write(request[at : at + size])
            await wire.writer.drain()
            await asyncio.sleep(0)
        answers = [await wire.answer(), await wire.answer()]
        wire.close()

    assert answers == [(200, b"hello"), (200, b"/next")]


async def test_a_large_body_may_come_in_chunks_of_any_sensible_size() -> None:
    body = b"".join(b"%x\r\n%b\r\n" % (size, b"x" * size) for size in (1, 3, 16, 1_000, 200_000) * 20) + b"0\r\n\r\n"
    head = b"POST /read HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving() as server:
        status, read = await server.ask(head + body)

    assert (status, len(read)) == (200, 20 * 201_020)


async def test_trailers_are_read_and_forgotten() -> None:
    head = b"POST /read HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving() as server:
        wire = await server.open(head + b"2\r\nhi\r\n0\r\nHost: elsewhere\r\nX: y\r\n\r\n" + GET % b"next")
        answers = [await wire.answer(), await wire.answer()]
        wire.close()

    assert answers == [(200, b"hi"), (200, b"/next")]


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as server:
        wire = await server.open(GET % b"wait" + b"".join(GET % b"%d" % n for n in range(30)))
        await until(lambda: server.app.asked == ["/wait"])
        server.app.go_on.set()
        answers = [await wire.answer() for _ in range(31)]
        wire.close()

    assert [body for _, body in answers] == [b"/wait", *(b"/%d" % n for n in range(30))]


async def test_more_pipelined_requests_than_anybody_needs_are_refused() -> None:
    async with serving() as server:
        wire = await server.open(GET % b"wait" + b"".join(GET % b"%d" % n for n in range(2_000)))
        assert await wire.ended() == b""

    assert server.app.asked == ["/wait"]


async def test_a_refusal_is_never_taken_for_the_answer_to_an_earlier_request() -> None:
    async with serving() as server:
        wire = await server.open(GET % b"wait" + b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n")
        assert await wire.ended() == b""


async def test_a_websocket_does_not_begin_before_all_answers() -> None:
    upgrade = (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with serving() as server:
        wire = await server.open(GET % b"wait" + upgrade)
        assert await wire.ended() == b""


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [("GET", b"", 400), ("POST", b"X: y", 405), ("GET", b"X: " + b"x" * 9_000, 400)],
    ids=["no key", "by POST", "long header"],
)
async def test_what_cannot_become_a_websocket_is_refused(method: str, headers: bytes, status: int) -> None:
    head = f"{method} / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n".encode()
    async with serving(Allowance()) as server:
        said = await (await server.open(head + headers + b"\r\n\r\n")).ended()

    assert said.startswith(b"HTTP/1.1 %d " % status)


async def test_what_follows_another_upgrade_is_never_a_request() -> None:
    """The parser stops there, so that it may be a body."""
    head = b"POST /first HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 39\r\n\r\n"
    async with serving() as server:
        wire = await server.open(head)
        await asyncio.sleep(0.05)
        wire.writer.write(GET % b"hidden")
        await wire.ended()

    assert server.app.asked == ["/first"]


# -- time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "drip", "answer"),
    [
        (b"", b"", b""),
        (b"GET", b"", b"408"),
        (b"GET / HTTP/1.1\r\nHost: local", b"", b"408"),
        (b"GET / HTTP/1.1\r\nHost: local", b"x", b"408"),
        (b"", b"\r\n", b"408"),
        (b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nhalf", b"", b""),
        (b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nhalf", b"x", b""),
        (b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", b""),
        (b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nhalf", b"x", b"200"),
        (GET % b"first", b"", b"200"),
        (GET % b"first" + b"GET / HTTP/1.1\r\nHo", b"x", b"200"),
        (GET % b"first", b"\r\n", b"200"),
    ],
    ids=[
        "nothing", "a method", "half a head", "a slow head", "empty lines", "half a body", "a slow body", "slow chunks",
        "a body nobody reads", "nothing more", "half a second head", "empty lines after it",
    ],
)  # fmt: skip
async def test_who_leaves_a_request_unfinished_is_sent_away(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, drip: bytes, answer: bytes
) -> None:
    monkeypatch.setattr("graph.server.sockets.KEEP_ALIVE_SECONDS", 0.1)
    async with serving(HURRIED) as server:
        wire = await server.open(sent)

        async def dripping() -> None:
            while drip:
                wire.writer.write(drip)
                await asyncio.sleep(0.02)

        dropping = asyncio.create_task(dripping())
        said = await wire.ended()
        dropping.cancel()
        wire.close()
        await until(lambda: len(server.app.door) == 0)

    assert said[9:12] == answer or (drip and not said)  # what came after a refusal may reset the connection


async def test_who_is_at_work_is_not_sent_away() -> None:
    async with serving(HURRIED) as server:
        wire = await server.open(GET % b"wait")
        await asyncio.sleep(1.0)
        server.app.go_on.set()
        answer = await wire.answer()
        wire.close()

    assert answer == (200, b"/wait")


async def test_who_does_not_take_the_answer_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graph.server.sockets.KEEP_ALIVE_SECONDS", 0.1)
    monkeypatch.setattr("graph.server.sockets.CLOSE_SECONDS", 0.1)
    async with serving(HURRIED) as server:
        wire = await server.open()
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        wire.writer.write(GET % b"large")
        await until(lambda: server.app.asked == ["/large"])
        await until(lambda: len(server.app.door) == 0)
        wire.close()


async def test_who_takes_the_answer_slowly_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graph.server.sockets.KEEP_ALIVE_SECONDS", 0.1)
    async with serving(HURRIED) as server:
        wire = await server.open(GET % b"large")
        read = 0
        async with asyncio.timeout(30):
            while read < 30_000_000 and (part := await wire.reader.read(400_000)):
                read += len(part)
                await asyncio.sleep(0.02)
        wire.close()

    assert read >= 30_000_000


# -- connections --------------------------------------------------------------------------------------

FEW = Allowance(connections=12, connections_per_address=8)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: local", GET % b"first"])
async def test_whoever_opens_connections_without_end_shuts_nobody_out(sent: bytes) -> None:
    async with serving(FEW) as server:
        held = [await server.open(sent) for _ in range(40)]
        served_ones = [await server.ask(GET % b"me"), await server.ask(GET % b"me", "127.0.0.2")]
        assert len(server.app.door) <= 12
        for wire in held:
            wire.close()

    assert served_ones == [(200, b"/me")] * 2


async def test_half_open_requests_of_many_addresses_shut_nobody_out() -> None:
    async with serving(FEW) as server:
        held = [await server.open(b"GET / HT", f"127.0.0.{10 + n % 20}") for n in range(60)]
        assert await server.ask(GET % b"me", "127.0.0.2") == (200, b"/me")
        assert len(server.app.door) <= 12
        for wire in held:
            wire.close()


async def test_an_address_with_all_its_connections_at_work_is_refused_another() -> None:
    async with serving(FEW) as server:
        held = [await server.open(GET % b"wait") for _ in range(8)]
        await until(lambda: len(server.app.asked) == 8)
        refused = await server.open()
        said = await refused.ended()
        other = await server.ask(GET % b"me", "127.0.0.2")
        server.app.go_on.set()
        answers = [await wire.answer() for wire in held]
        for wire in [*held, refused]:
            wire.close()
        await until(lambda: len(server.app.door) == 0)
        after = await server.ask(GET % b"me")

    assert said.startswith(b"HTTP/1.1 503 ")
    assert other == after == (200, b"/me")
    assert answers == [(200, b"/wait")] * 8


async def test_a_trusted_proxy_has_as_many_connections_as_there_are() -> None:
    async with serving(FEW, proxies="127.0.0.9") as server:
        held = [await server.open(GET % b"wait", "127.0.0.9") for _ in range(11)]
        await until(lambda: len(server.app.asked) == 11)
        answer = await server.ask(GET % b"me", "127.0.0.2")
        server.app.go_on.set()
        answers = [await wire.answer() for wire in held]
        for wire in held:
            wire.close()

    assert answer == (200, b"/me")
    assert answers == [(200, b"/wait")] * 11


async def test_a_websocket_stays_one_connection_of_its_address() -> None:
    async with serving(FEW) as server:
        sockets = [await connect(f"ws://{server.host}:{server.port}/", proxy=None) for _ in range(8)]
        await until(lambda: len(server.app.door) == 8)
        said = await (await server.open()).ended()
        for socket in sockets:
            await socket.close()
        await until(lambda: len(server.app.door) == 0)
        answer = await server.ask(GET % b"me")

    assert said.startswith(b"HTTP/1.1 503 ")
    assert answer == (200, b"/me")


async def test_websockets_that_do_not_answer_their_end_give_way_to_others() -> None:
    handshake = (
        b"GET /close HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    async with serving(FEW) as server:
        held = [await server.open(handshake, f"127.0.0.{10 + n % 3}") for n in range(24)]
        await until(lambda: len(server.app.asked) == 24)
        answers = [await server.ask(GET % b"me", origin) for origin in ("127.0.0.2", "127.0.0.10")]
        for wire in held:
            wire.close()

    assert answers == [(200, b"/me")] * 2


def test_there_are_no_more_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    limits: list[Any] = [(1_024, 4_096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))

    assert allowed_connections(500) == 500
    assert limits == [(1_024, 4_096)]
    assert allowed_connections(2_000) == 2_000
    assert limits[-1] == (2_200, 4_096)
    assert allowed_connections(10_000) == 3_896
    assert limits[-1] == (4_096, 4_096)
