"""A real server on a free port of the loopback interface."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import uvicorn


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that nobody announces."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncIterator[str]:
    """Serve an ASGI application; the value is `host:port`."""
    listener = socket.create_server(("127.0.0.1", 0))

    async def with_lifespan(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    defaults: dict[str, Any] = {"lifespan": "off", "log_level": "critical", "access_log": False}
    config = uvicorn.Config(with_lifespan, **defaults | options)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # the tests keep theirs
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await until(lambda: server.started)
        host, port = listener.getsockname()
        yield f"{host}:{port}"
    finally:
        server.should_exit = True
        await task
        listener.close()
