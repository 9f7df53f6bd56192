"""uvicorn's connections, which keep to the bounds of the door.

    Door <- HttpProtocol -> RequestResponseCycle (uvicorn)
         <- WebSocketProtocol

The parser (httptools) bounds neither what a request says before its body nor the time it takes, and uvicorn keeps all
of it. What breaks a bound is answered and closed: 408 too slow, 414 and 431 too long, 429 and 503 too many.
"""

import asyncio
from http import HTTPStatus
from math import inf
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from graph.server.door import CLOSE_SECONDS, DOOR, KEEP_ALIVE_SECONDS, Allowance, Door
from graph.transport.addresses import Proxies

GOING_AWAY = 1001
LEAST_TAKEN = 16_384
"""Bytes of an answer that a client must take in `CLOSE_SECONDS`."""
PIPELINED = 32
"""Requests that may wait on one connection for the answers before theirs."""


class Refused(Exception):
    """A request that is answered here, and the connection closed."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Trailers(list[tuple[bytes, bytes]]):
    """What comes after a body, which nobody reads (RFC 9110, section 6.5): nothing is kept."""

    def append(self, field: tuple[bytes, bytes]) -> None:
        pass


TRAILERS = Trailers()


class HttpProtocol(HttpToolsProtocol):
    """One connection. It owes a whole head in time, then a body, then to take its answer."""

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.door: Door = app_state[DOOR] if DOOR in app_state else Door(Allowance(), Proxies())
        bounds = self.door.bounds
        self._head, self._headers = bounds.head, bounds.headers
        self._room = bounds.head
        """Bytes that may come beside bodies until the parser has understood them."""
        self._body_seconds = bounds.body_seconds
        self._next_seconds = KEEP_ALIVE_SECONDS + bounds.head_seconds
        self._unsent = inf
        self._deaf = False
        self.due = inf
        self.url = b""

    # Coming and going

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.due = self.loop.time() + self.door.bounds.head_seconds
        if not self.door.enter(self, self.client[0] if self.client else "", self.loop):
            self._refuse(Refused(HTTPStatus.SERVICE_UNAVAILABLE, "There are too many connections; try again later."))

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.leave(self)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self.door.leave(self)
        super().handle_websocket_upgrade()

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def abort(self) -> None:
        self.transport.abort()

    def overdue(self, now: float) -> None:
        unsent = self.transport.get_write_buffer_size()
        if 0 < unsent <= self._unsent - LEAST_TAKEN:  # slowly, but the client takes its answer
            self._unsent, self.due = unsent, now + CLOSE_SECONDS
        elif self._room < self._head and (self.cycle is None or self.cycle.response_complete):
            self._refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "The head of the request did not arrive in time."))
        else:
            self.transport.close()
            self.due = now + CLOSE_SECONDS

    # What comes in

    def data_received(self, data: bytes) -> None:
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        self._room -= len(data)
        if self._deaf:
            return
        try:
            self.parser.feed_data(data)
            if self._room < 0:
                self._too_long()
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except (httptools.HttpParserError, Refused) as error:
            cause = error if isinstance(error, Refused) else error.__context__
            if not isinstance(cause, Refused):
                cause = Refused(HTTPStatus.BAD_REQUEST, "This is no HTTP request.")
            self._refuse(cause)

    def on_headers_complete(self) -> None:
        headers = self.headers
        if self._room < 0 and len(self.url) + sum(len(name) + len(value) + 4 for name, value in headers) > self._head:
            self._too_long()
        if len(headers) > self._headers:
            message = f"There are more than {self._headers} headers."
            raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message)
        if self.pipeline and len(self.pipeline) >= PIPELINED:
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, f"More than {PIPELINED} requests wait for their answers.")
        hosts = 0
        for name, _ in headers:
            if name == b"host":
                hosts += 1
        if hosts != 1 and (hosts or self.parser.get_http_version() == "1.1"):
            raise Refused(HTTPStatus.BAD_REQUEST, "A request has one Host header.")  # RFC 9112, section 3.2
        super().on_headers_complete()
        self._room = self._head
        self.due = self.loop.time() + self._body_seconds
        if not self.parser.should_upgrade():
            self.headers = TRAILERS

    def on_body(self, body: bytes) -> None:
        # What frames a body may be as long as the body and a head more: chunks of a few bytes are no attack.
        room = self._room + 2 * len(body)
        self._room = min(self._head, room)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._room = self._head
        answered = self.cycle is not None and self.cycle.response_complete
        self.due = self.loop.time() + self._next_seconds if answered else inf

    def _too_long(self) -> None:
        if len(self.url) > self._head // 2:
            raise Refused(HTTPStatus.REQUEST_URI_TOO_LONG, "The URL is too long.")
        message = f"The headers are longer than {self._head} bytes."
        raise Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message)

    def _upgrade(self) -> None:
        if not self._should_upgrade():
            # Answered as it is (RFC 9110, section 7.8). The parser has stopped: what follows could be a body.
            self.cycle.keep_alive = False
            self._deaf = True
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._refuse(Refused(HTTPStatus.BAD_REQUEST, "A WebSocket begins after all answers."))
            return
        self.handle_websocket_upgrade()

    # What goes out

    def on_response_complete(self) -> None:
        super().on_response_complete()
        cycle = self.cycle
        if cycle.response_complete and not cycle.more_body:
            self._unsent = inf
            self.due = self.loop.time() + self._next_seconds

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent, self.due = inf, self.loop.time() + self.door.bounds.head_seconds

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.cycle is not None and not self.cycle.response_complete:
            self.due = inf

    def _refuse(self, refused: Refused) -> None:
        """Answer in place of the application, unless another answer is to come first, and close."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        asked = cycle is not None and not cycle.response_complete  # then this is about its body, or about what follows
        if not asked or (cycle.more_body and not cycle.response_started and not self.pipeline):
            status, body = refused.status, refused.message.encode()
            head = (
                f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()
        self.due = self.loop.time() + CLOSE_SECONDS


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Closes with 1001 at shutdown. uvicorn's own code, 1012, means that the same server is back in a moment.

    How many there may be and what they owe is the endpoint's part (`graph.transport.websocket`): it knows who they are.
    """

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.door: Door | None = app_state.get(DOOR)
        self.due = inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.door is not None:
            self.due = self.loop.time() + self.door.bounds.head_seconds  # for the handshake, which has come already
            self.door.enter(self, self.client[0] if self.client else "", self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.door is not None:
            self.door.leave(self)
        super().connection_lost(exc)

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def overdue(self, now: float) -> None:
        self.transport.close()
        self.due = now + CLOSE_SECONDS

    def start_keepalive(self) -> None:  # the handshake is complete
        self.due = inf
        super().start_keepalive()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.close_sent:  # what is left is the client's to say, and it gives way to others meanwhile
            self.due = min(self.due, self.loop.time() + CLOSE_SECONDS)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:  # uvicorn would wait for ever
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.transport.close()

    def abort(self) -> None:
        self.transport.abort()

    def shutdown(self) -> None:
        if self.handshake_complete and not self.close_sent and self.conn.state is State.OPEN:
            self.conn.send_close(GOING_AWAY, "The server is shutting down")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        super().shutdown()
