"""The endpoint behind a real server: clients that go away, send too much, or send nothing."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.execution.http_schema import Application
from tests.execution.serving import served, until

pytestmark = pytest.mark.anyio

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def opened(address: str) -> Streams:
    host, port = address.split(":")
    return await asyncio.open_connection(host, int(port))


def request(address: str, body: bytes, **headers: str) -> bytes:
    lines = ["POST /graphql HTTP/1.1", f"host: {address}", "content-type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if "content_length" not in headers and "transfer_encoding" not in headers:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def status_of(reader: asyncio.StreamReader) -> int:
    async with asyncio.timeout(5):
        return int((await reader.readline()).split()[1])


def query(text: str, **parameters: Any) -> bytes:
    return json.dumps({"query": text, **parameters}).encode()


async def test_a_client_that_goes_away_cancels_its_operation() -> None:
    application = Application()
    async with served(application.endpoint) as address:
        _, writer = await opened(address)
        writer.write(request(address, query("{ slow }")))
        await until(lambda: application.state.contexts == 1)
        writer.transport.abort()
        await until(lambda: len(application.state.records) == 1)

    assert application.state.cancelled == 1
    assert application.state.open == 0
    assert application.state.records[0].stopped == "disconnect"
    assert not application.state.reported


async def test_a_client_that_goes_away_while_it_sends_runs_nothing() -> None:
    application = Application()
    async with served(application.endpoint) as address:
        _, writer = await opened(address)
        writer.write(request(address, query("mutation { write }")[:-5], content_length="500"))
        await asyncio.sleep(0.05)
        writer.transport.abort()
        await until(lambda: len(application.state.records) == 1)

    assert application.state.contexts == 0


async def test_an_operation_that_takes_too_long_is_answered_504() -> None:
    application = Application(timeout=0.1)
    async with served(application.endpoint) as address, httpx.AsyncClient() as client:
        slow = await client.post(f"http://{address}/graphql", json={"query": "{ slow }"})
        after = await client.post(f"http://{address}/graphql", json={"query": "{ hello }"})

    assert (slow.status_code, after.status_code) == (504, 200)
    assert application.state.cancelled == 1


async def test_a_client_that_sends_too_much_gets_to_read_why() -> None:
    async with served(Application(max_body=100_000).endpoint) as address, httpx.AsyncClient() as client:
        response = await client.post(
            f"http://{address}/graphql", content=b"x" * 1_500_000, headers={"content-type": "application/json"}
        )

    assert response.status_code == 413
    assert "100000 bytes" in response.json()["errors"][0]["message"]


async def test_half_bodies_share_a_bounded_space_and_small_ones_are_taken_nevertheless() -> None:
    application = Application(max_unfinished=400_000)
    whole = query("{ __typename }")
    async with served(application.endpoint) as address:
        halves = [await opened(address) for _ in range(6)]
        for _, writer in halves:
            writer.write(request(address, b"x" * 100_000, content_length="900000"))
            await writer.drain()
        refused = {asyncio.create_task(status_of(reader)): reader for reader, _ in halves}
        done, waiting = await asyncio.wait(refused, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result() for task in done} == {503}
        reader, small = await opened(address)
        small.write(request(address, whole[:5], content_length=str(len(whole))))
        await asyncio.sleep(0.05)
        small.write(whole[5:])
        assert await status_of(reader) == 200
        for task in waiting:
            task.cancel()
        for _, writer in [*halves, (reader, small)]:
            writer.transport.abort()
        await until(lambda: application.endpoint._unfinished == 0)


async def test_a_body_without_end_is_not_read_to_its_end() -> None:
    application = Application(max_body=10_000)
    async with served(application.endpoint) as address:
        _, writer = await opened(address)
        writer.write(request(address, b"", transfer_encoding="chunked"))
        chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"

        async def send_forever() -> None:
            while True:
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(0)

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(send_forever(), 10)
        writer.transport.abort()

    assert application.state.records[0].status == 413


async def test_a_body_that_does_not_come_is_408() -> None:
    async with served(Application(timeout=0.1).endpoint) as address:
        reader, writer = await opened(address)
        writer.write(request(address, b'{"query"', content_length="100"))

        assert await status_of(reader) == 408
        writer.close()


async def test_requests_are_answered_one_after_another_on_one_connection() -> None:
    async with served(Application().endpoint) as address, httpx.AsyncClient() as client:
        for n in range(3):
            response = await client.post(f"http://{address}/graphql", json={"query": f'{{ hello(name: "{n}") }}'})
            assert response.json()["data"] == {"hello": f"hello {n}"}
            head = await client.head(f"http://{address}/graphql", params={"query": "{ hello }"})
            assert head.status_code == 200


async def test_a_hundred_clients_are_answered() -> None:
    application = Application()
    async with served(application.endpoint) as address, httpx.AsyncClient() as client:

        async def ask(n: int) -> bool:
            response = await client.post(f"http://{address}/graphql", json={"query": f'{{ hello(name: "{n}") }}'})
            return bool(response.json()["data"]["hello"] == f"hello {n}")

        assert all(await asyncio.gather(*(ask(n) for n in range(100))))
    assert application.state.open == 0


async def test_the_time_for_a_request_is_not_taken_from_its_operation() -> None:
    application = Application(timeout=2)
    body = query("{ slow(seconds: 0.6) }")
    async with served(application.endpoint) as address:
        reader, writer = await opened(address)
        writer.write(request(address, body)[: -len(body)])
        await asyncio.sleep(1.6)
        writer.write(body)

        assert await status_of(reader) == 200
        writer.close()


async def test_a_client_that_sent_slowly_and_goes_away_cancels_its_operation() -> None:
    application = Application()
    body = query("{ slow }")
    async with served(application.endpoint) as address:
        _, writer = await opened(address)
        writer.write(request(address, body)[: -len(body)])
        await asyncio.sleep(0.1)
        writer.write(body)
        await until(lambda: application.state.contexts == 1)
        writer.transport.abort()
        await until(lambda: len(application.state.records) == 1)

    assert application.state.cancelled == 1
