"""GraphQL over WebSocket (the protocol graphql-transport-ws)."""

from starlette.types import Receive, Scope, Send

from graph.execution.service import Service


class WebSocketEndpoint:
    def __init__(self, service: Service) -> None:
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 4406})

    async def close(self) -> None:
        """End all WebSockets."""
