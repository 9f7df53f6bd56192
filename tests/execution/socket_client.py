"""A client of graphql-transport-ws that lets a test say anything."""

import asyncio
import json
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

PROTOCOL = Subprotocol("graphql-transport-ws")


class Client:
    """A client that speaks in JSON."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(5):
            message: dict[str, Any] = json.loads(await self.connection.recv())
            return message

    async def init(self, **payload: Any) -> None:
        await self.send(type="connection_init", **({"payload": payload} if payload else {}))
        assert await self.receive() == {"type": "connection_ack"}

    async def subscribe(self, identifier: str, query: str, **parameters: Any) -> None:
        await self.send(type="subscribe", id=identifier, payload={"query": query, **parameters})

    async def closed(self) -> tuple[int, str]:
        async with asyncio.timeout(5):
            with suppress(ConnectionClosed):
                while True:
                    await self.connection.recv()
        return self.connection.close_code or 0, self.connection.close_reason or ""
