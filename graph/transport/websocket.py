"""GraphQL over WebSocket: the protocol graphql-transport-ws, on the same path as HTTP.

    WebSocketEndpoint -> Socket (one connection) -> a task for each operation

The reader never runs an operation and no operation touches the reader, so that neither can end the other. What breaks
the protocol closes the socket with the protocol's codes. Besides these are used 1001 (shutdown), 1009 (message too
large), 1011 (no answer to pings, or a bug), 1013 (too many sockets, a client that does not read, or an application that
cannot be reached) and 4403 (the application refused the connection). The legacy protocol `graphql-ws` is not spoken.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from time import perf_counter
from typing import Any, NoReturn
from urllib.parse import urlsplit

import orjson
from graphql import GraphQLError, OperationType
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from graph.execution.errors import LIMIT_EXCEEDED, RequestError
from graph.execution.running.engine import Result
from graph.transport.budget import Balance
from graph.transport.host import OperationRecord
from graph.transport.parameters import Parameters, from_mapping, json_type, load_json
from graph.transport.places import Places
from graph.transport.service import Prepared, Refused, Service, code_of, request_failed

PROTOCOL = "graphql-transport-ws"

INVALID, UNAUTHORIZED, FORBIDDEN = 4400, 4401, 4403
WRONG_PROTOCOL, INIT_TIMEOUT, DUPLICATE, TOO_MANY_INITS = 4406, 4408, 4409, 4429
GOING_AWAY, TOO_LARGE, INTERNAL_ERROR, TRY_LATER = 1001, 1009, 1011, 1013

# RFC 6455, section 5.5: a control frame has 125 bytes, two of which are the code.
MAX_REASON = 123
MAX_ID = 1_000

# For the last message of a socket, to a client that may not read.
CLOSE_SECONDS = 5.0


class Closing(Exception):
    """The socket is to be closed with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class WebSocketEndpoint:
    """Accepts the WebSockets of one service."""

    def __init__(self, service: Service) -> None:
        self.service, self.closing = service, False
        options = service.options
        self.places = Places(
            options.max_sockets, per_client=options.max_sockets_per_client, per_viewer=options.max_sockets_per_viewer
        )
        self.sockets: dict[Socket, asyncio.Task[Any] | None] = {}
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        connection = HTTPConnection(scope)
        options = self.service.options
        origin = connection.headers.get("origin")
        if origin is not None and not same_origin(origin, connection) and not options.origin_allowed(origin):
            await send({"type": "websocket.close", "code": FORBIDDEN})  # before it is accepted: a 403
            return
        if PROTOCOL not in scope.get("subprotocols", ()):
            await self._refuse(send, WRONG_PROTOCOL, f"The subprotocol must be {PROTOCOL}")
        elif self.closing:
            await self._refuse(send, GOING_AWAY, "The server is shutting down", PROTOCOL)
        else:
            self._count += 1
            scope.setdefault("state", {})["request_id"] = identifier = f"ws-{id(self):x}-{self._count:x}"
            await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
            socket = Socket(self.service, self.places, connection, receive, send, identifier)
            if not self.places.take(socket, self.service.host.client_key(scope)):
                reason = "The server has too many WebSockets"
                await send({"type": "websocket.close", "code": TRY_LATER, "reason": reason})
                return
            self.sockets[socket] = asyncio.current_task()
            try:
                await socket.run()
            finally:
                self.places.leave(socket)
                del self.sockets[socket]

    async def close(self) -> None:
        """End all sockets because the server is going away, and accept no more."""
        self.closing = True
        for socket in self.sockets:
            socket.stop(GOING_AWAY, "The server is shutting down")
        if tasks := [task for task in self.sockets.values() if task is not None]:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)

    @staticmethod
    async def _refuse(send: Send, code: int, reason: str, subprotocol: str | None = None) -> None:
        """Accept and close at once: only so does a browser learn the code."""
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        await send({"type": "websocket.close", "code": code, "reason": reason})


def same_origin(origin: str, connection: HTTPConnection) -> bool:
    """Whether a page comes from the host that it talks to. The scheme may differ behind a proxy that ends TLS."""
    try:
        parts = urlsplit(origin.lower())
        default = {"http": 80, "https": 443}.get(parts.scheme)
        host = parts.hostname or ""
        names = {parts.netloc, f"{host}:{parts.port or default}"}
        if parts.port in (None, default):
            names.add(f"[{host}]" if ":" in host else host)
    except ValueError:
        return False
    return bool(host) and connection.headers.get("host", "").lower() in names


class Socket:
    """One connection and its operations."""

    def __init__(
        self,
        service: Service,
        places: Places,
        connection: HTTPConnection,
        receive: Receive,
        send: Send,
        identifier: str,
    ) -> None:
        self.service, self.options, self.places = service, service.options, places
        self.connection, self.identifier = connection, identifier
        self.params: Mapping[str, Any] | None = None
        self.operations: dict[str, asyncio.Task[None]] = {}
        self._receive, self._send_message = receive, send
        self._initialised = self._acknowledged = False
        self._ending: set[asyncio.Task[None]] = set()  # completed by the client, not yet gone
        self._sending = asyncio.Lock()
        self._closing: Closing | None = None
        self._disconnected = False
        self._heard = self._asked = self._confirmed = perf_counter()
        self._signed_in = False
        self._count = 0
        self._reader: asyncio.Task[Any] | None = None

    async def run(self) -> None:
        """Serve the connection until it ends."""
        self._reader = asyncio.current_task()
        monitor = asyncio.create_task(self._monitor())
        try:
            while True:
                message = await self._receive()
                if message["type"] == "websocket.disconnect":
                    self._disconnected = True
                    break
                self._heard = perf_counter()
                await self._on_message(message)
        except Closing as closing:
            self._closing = self._closing or closing
        except asyncio.CancelledError:
            if self._closing is None or self._reader is None or self._reader.uncancel() > 0:
                raise
        except OSError:  # the client went away while it was written to
            self._disconnected = True
        except Exception as error:
            self.service.failure(error)
            self._closing = Closing(INTERNAL_ERROR, "Internal server error")
        finally:
            self._reader = None
            tasks = [monitor, *self.operations.values(), *self._ending]
            for task in tasks:
                task.cancel()
            await self._close()
            await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self, code: int, reason: str) -> None:
        """Close the socket, from whichever task."""
        if self._closing is None and self._reader is not None:
            self._closing = Closing(code, reason)
            self._reader.cancel()

    @property
    def silent(self) -> bool:
        return not self.operations and not self._ending

    def give_way(self) -> None:
        self.stop(TRY_LATER, "Others need the place of who is not signed in")

    async def _close(self) -> None:
        closing = self._closing
        if closing is None or self._disconnected:
            return
        reason = closing.reason.encode()[:MAX_REASON].decode(errors="ignore")
        try:
            async with asyncio.timeout(min(CLOSE_SECONDS, self.options.send_timeout)):
                await self._send_message({"type": "websocket.close", "code": closing.code, "reason": reason})
        except (TimeoutError, OSError):
            return

    async def _monitor(self) -> None:
        """See to it that the client begins in time, and that it is still there."""
        began, interval, patience = perf_counter(), self.options.ping_interval, self.options.silent_timeout
        while True:
            now = perf_counter()
            silence = now - self._heard
            if not self._acknowledged:
                wait = began + self.options.init_timeout - now
                if wait <= 0:
                    self.stop(INIT_TIMEOUT, "Connection initialisation timeout")
                    return
            elif not self._signed_in and self.silent and now - self._asked >= patience:
                self.stop(UNAUTHORIZED, "Nobody is signed in, and nothing is asked for")
                return
            elif silence >= 2 * interval:
                self.stop(INTERNAL_ERROR, "No answer to pings")
                return
            elif self._signed_in and now - self._confirmed >= patience:
                if (refusal := await self._refusal()) is not None:
                    if not self.silent:  # what may have ended the token itself has an answer to send
                        await asyncio.sleep(self.options.timeout)
                    self.stop(FORBIDDEN, refusal)
                    return
                self._confirmed = perf_counter()
                continue
            elif silence >= interval:
                await self._send({"type": "ping"})
                wait = interval
            else:
                wait = interval - silence
            await asyncio.sleep(min(wait, self._confirmed + patience - now if self._signed_in else patience))

    async def _refusal(self) -> str | None:
        """Why who signed in once is refused now: a place is a viewer's for as long as the token is good.

        An application that cannot tell refuses nobody.
        """
        try:
            async with asyncio.timeout(self.options.timeout), self.service.context(self.connection.scope, self.params):
                return None
        except RequestError as error:
            return None if code_of(error) == "UNAVAILABLE" else error.message
        except Exception as error:
            self.service.failure(error)
            return None

    async def _send(self, message: dict[str, Any] | bytes) -> None:
        """Send one message. It waits until the client has room for it, so that nothing piles up here."""
        if self._closing is not None or self._disconnected:
            return
        text = (message if isinstance(message, bytes) else orjson.dumps(message)).decode()
        try:
            async with asyncio.timeout(self.options.send_timeout), self._sending:
                await self._send_message({"type": "websocket.send", "text": text})
        except TimeoutError:
            self.stop(TRY_LATER, "The client does not read what it asked for")
        except OSError:
            self._disconnected = True

    # What the client says

    async def _on_message(self, received: Mapping[str, Any]) -> None:
        text = received.get("text")
        if text is None:
            _invalid("Messages must be text")
        if len(text) > self.options.max_message:
            raise Closing(TOO_LARGE, f"Messages must not be larger than {self.options.max_message} bytes")
        try:
            message = load_json(text.encode("utf-8", "surrogatepass"), "The message")
        except RequestError as error:
            _invalid(error.message)
        if type(message) is not dict:
            _invalid(f"A message must be an object, not {json_type(message)}")
        kind = message.get("type")
        payload = message.get("payload")
        if kind == "subscribe":
            self._on_subscribe(_identifier(message), payload)
        elif kind == "complete":
            self._on_complete(_identifier(message))
        elif kind in ("connection_init", "ping", "pong"):
            if payload is not None and type(payload) is not dict:
                _invalid(f"The payload of {kind} must be an object, not {json_type(payload)}")
            if kind == "connection_init":
                await self._on_init(payload)
            elif kind == "ping":
                await self._send({"type": "pong"} if payload is None else {"type": "pong", "payload": payload})
        else:
            _invalid("The message has no type of the protocol")

    async def _on_init(self, payload: Mapping[str, Any] | None) -> None:
        if self._initialised:
            raise Closing(TOO_MANY_INITS, "Too many initialisation requests")
        self._initialised = True
        self.params = payload
        try:
            async with self.service.context(self.connection.scope, payload) as context:
                viewer = self.service.host.viewer_key(context)  # whoever may enter may connect
        except RequestError as error:
            raise Closing(TRY_LATER if code_of(error) == "UNAVAILABLE" else FORBIDDEN, error.message) from None
        except Exception as error:
            failed = self.service.failure(error)
            raise Closing(TRY_LATER, failed.errors[0].message) from None
        if viewer is not None and not self.places.sign_in(self, viewer):
            raise Closing(TRY_LATER, "You have too many WebSockets")
        self._signed_in = viewer is not None
        self._acknowledged = True
        await self._send({"type": "connection_ack"})

    def _on_subscribe(self, identifier: str, payload: Any) -> None:
        if not self._acknowledged:
            raise Closing(UNAUTHORIZED, "Unauthorized")
        if type(payload) is not dict:
            _invalid(f"The payload of subscribe must be an object, not {json_type(payload)}")
        try:
            parameters = from_mapping(payload)
        except RequestError as error:
            _invalid(error.message)
        if identifier in self.operations:
            raise Closing(DUPLICATE, f"Subscriber for {identifier} already exists")
        self._count += 1
        self._asked = perf_counter()
        record = OperationRecord("websocket", f"{self.identifier}-{self._count:x}")
        allowed, actual = self.options.max_subscriptions, len(self.operations) + len(self._ending) + 1
        if actual > allowed:
            work = self._refuse(identifier, allowed, actual)
        else:
            work = self._operate(identifier, parameters, record)
        self.operations[identifier] = asyncio.create_task(work)

    def _on_complete(self, identifier: str) -> None:
        task = self.operations.pop(identifier, None)
        if task is not None:
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            task.cancel()

    # What becomes of an operation

    async def _refuse(self, identifier: str, allowed: int, actual: int) -> None:
        message = f"The connection has {actual} operations open; at most {allowed} are allowed"
        error = RequestError(message, LIMIT_EXCEEDED, limit="subscriptions", allowed=allowed, actual=actual)
        await self._finish(identifier, [error])

    async def _operate(self, identifier: str, parameters: Parameters, record: OperationRecord) -> None:
        """Run one operation to its end and tell the client. Only cancellation is raised."""
        started = perf_counter()
        context = None
        try:
            prepared = self.service.prepare(parameters, record)
            if prepared.operation.kind is OperationType.SUBSCRIPTION and not prepared.explain:
                failed = await self._subscribe(identifier, prepared, record)
            else:
                async with asyncio.timeout(self.options.timeout):
                    result, context = await self.service.execute(prepared, self.connection.scope, self.params, record)
                failed = await self._next(identifier, result, record)
        except asyncio.CancelledError:
            record.stopped = "complete" if self._closing is None and not self._disconnected else "disconnect"
            self._observe(context, record, started)
            raise
        except TimeoutError:
            record.stopped = "timeout"
            failed = [self.service.timed_out(record)]
        except Refused as refused:
            failed = refused.result.errors
        except RequestError as error:
            failed = [error]
        except Exception as error:
            failed = self.service.failure(error).errors
        if failed:
            record.codes = tuple(code_of(error) for error in failed)
        await self._finish(identifier, failed)
        self._observe(context, record, started)

    async def _subscribe(self, identifier: str, prepared: Prepared, record: OperationRecord) -> list[GraphQLError]:
        """Send an event after the other. Each pays, has a context of its own and the time of an operation."""
        balance: Balance | None = None
        timeout: float | None = None  # the first context is that of the source, which lasts

        @asynccontextmanager
        async def paid_context() -> AsyncIterator[Any]:
            nonlocal balance, timeout
            limit, timeout = timeout, self.options.timeout
            try:
                async with (
                    asyncio.timeout(limit),
                    self.service.context(self.connection.scope, self.params) as context,
                ):
                    balance = await self.service.pay(prepared, context)
                    yield context
            except TimeoutError:
                raise self.service.timed_out(record) from None

        record.events = 0
        results = self.service.engine.subscribe(
            prepared.operation, prepared.variables, paid_context, inputs=prepared.inputs
        )
        async with aclosing(results) as events:  # type: ignore[type-var]
            async for result in events:
                self.service.report_cost(prepared, balance, result)
                if failed := await self._next(identifier, result, record):
                    return failed
                record.events += 1
        return []

    async def _next(self, identifier: str, result: Result, record: OperationRecord) -> list[GraphQLError]:
        """Send a result, or give back the errors of one that is none."""
        if request_failed(result):
            return result.errors
        record.codes += tuple(code_of(error) for error in result.errors)
        body = self.service.engine.encode(result)
        record.bytes += len(body)
        await self._send(b'{"id":%b,"type":"next","payload":%b}' % (orjson.dumps(identifier), body))
        return []

    async def _finish(self, identifier: str, errors: list[GraphQLError]) -> None:
        """Say that the operation is over. From here on the client may use its id again."""
        self._asked = perf_counter()
        if self.operations.get(identifier) is asyncio.current_task():
            del self.operations[identifier]
        if errors:
            payload = self.service.engine.encode(Result(errors=errors))
            payload = payload[len(b'{"errors":') : -1]
            await self._send(b'{"id":%b,"type":"error","payload":%b}' % (orjson.dumps(identifier), payload))
        else:
            await self._send({"id": identifier, "type": "complete"})

    def _observe(self, context: Any, record: OperationRecord, started: float) -> None:
        record.duration = perf_counter() - started
        self.service.observe(context, record)


def _identifier(message: Mapping[str, Any]) -> str:
    identifier = message.get("id")
    if type(identifier) is not str or not 0 < len(identifier) <= MAX_ID:
        _invalid(f"The id of {message['type']} must be a string of 1 to {MAX_ID} characters")
    return identifier


def _invalid(reason: str) -> NoReturn:
    raise Closing(INVALID, reason)
