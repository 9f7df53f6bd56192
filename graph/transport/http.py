"""GraphQL over HTTP as an ASGI application.

Follows the first edition (September 2026) of the GraphQL over HTTP specification in full. Where it leaves a choice:

- A client that does not name `application/graphql-response+json` in its Accept header gets `application/json` for
  answers with data, always with 200; what failed as a whole has its status and the newer media type in either case.
- A body that is no JSON object is answered 400 like one that is no JSON, instead of 422.
- A client that stops sending its body gets a 408, one that sends too much a 413.
- What an operation may not do before it starts (limits, cost) is 400, a spent budget 429, a timeout 504.
- Requests in `application/json` only, no content encodings: nothing a foreign page could send without a preflight.
  GET executes queries only, which change nothing, and no cookie says who is asking.
"""

import asyncio
import re
import zlib
from collections.abc import Mapping
from secrets import token_hex
from time import perf_counter
from typing import Any

from graphql import OperationType
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from graph.execution.errors import RequestError
from graph.execution.running.engine import Engine, Result
from graph.transport.host import Host, HttpOptions, OperationRecord
from graph.transport.media import GRAPHQL_RESPONSE, HTML, JSON, accepts_gzip, content_type_problem, preferred
from graph.transport.parameters import Parameters, bad_request, from_json, from_query_string
from graph.transport.service import Refused, Service, code_of, failure_status, request_failed
from graph.transport.stopping import Stopped, Stopping, Watch
from graph.transport.websocket import WebSocketEndpoint

__all__ = ["GraphQLEndpoint", "Host", "HttpOptions", "OperationRecord"]

ALLOW = "GET, POST"
PARTIAL_SUCCESS = 294

CONTENT_TYPES = {
    JSON: (b"content-type", b"application/json; charset=utf-8"),
    GRAPHQL_RESPONSE: (b"content-type", b"application/graphql-response+json; charset=utf-8"),
}
VARY = (b"vary", b"Accept, Accept-Encoding")
VARY_ORIGIN = (b"vary", b"Accept, Accept-Encoding, Origin")
VARY_PREFLIGHT = (b"vary", b"Origin, Access-Control-Request-Headers")
NO_STORE = (b"cache-control", b"no-store")
NO_SNIFFING = (b"x-content-type-options", b"nosniff")

PREFLIGHT_SECONDS = 7200
HEADER_NAMES = re.compile(rb"[\w!#$%&'*+.^`|~, \t-]{1,4096}")
EXPOSED = b"retry-after, x-request-id"
REQUEST_ID_CHARACTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:")
REQUEST_ID_LENGTH = 128

# Compressing more than this takes longer than handing it to a thread.
COMPRESS_IN_THREAD = 100_000

# A body that is not much longer than its head may always come in pieces, however many large ones do.
SMALL_BODY = 65_536

# A client that sends too much is read for so long, so that it gets to read why; then the connection is closed.
DRAIN_SECONDS, DRAIN_FACTOR = 1.0, 16


class Head:
    """The headers that matter, found in one go."""

    __slots__ = (
        "accept",
        "accept_encoding",
        "content_encoding",
        "content_length",
        "content_type",
        "origin",
        "request_id",
    )

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        values = dict(headers)
        if len(values) < len(headers):  # a list that is spread over several lines is one list (RFC 9110, section 5.3)
            for repeated in (b"accept", b"content-type"):
                if repeated in values:
                    values[repeated] = b", ".join(value for name, value in headers if name == repeated)
        get = values.get
        self.accept = get(b"accept")
        self.accept_encoding = get(b"accept-encoding")
        self.content_encoding = get(b"content-encoding")
        self.content_length = get(b"content-length")
        self.content_type = get(b"content-type")
        self.origin = get(b"origin")
        self.request_id = get(b"x-request-id")


class GraphQLEndpoint:
    """The ASGI application of one schema, for HTTP and WebSockets on one path.

    It goes into a `starlette.routing.Route` and a `WebSocketRoute`. `close` ends the WebSockets at shutdown.
    """

    def __init__(self, engine: Engine, host: Host, options: HttpOptions) -> None:
        self.service = Service(engine, host, options)
        self.engine, self.host, self.options = engine, host, options
        self.websockets = WebSocketEndpoint(self.service)
        self._watch = Watch()
        self._unfinished = 0  # bytes of bodies that are not there whole yet
        self._vary = VARY_ORIGIN if options.any_origin_allowed else VARY
        self._ids, self._count = token_hex(6), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.websockets(scope, receive, send)
        else:
            await self.http(scope, receive, send)

    async def close(self) -> None:
        """End all WebSockets (1001), as the server is going away."""
        await self.websockets.close()

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an HTTP request."""
        started = perf_counter()
        head = Head(scope["headers"])
        record = OperationRecord("http", self._request_id(head.request_id))
        context: Any = None
        media = preferred(head.accept, page=scope["method"] in ("GET", "HEAD"))
        try:
            if media is HTML:
                response = self.host.page(Request(scope, receive))
                if response is not None:
                    response.headers["vary"] = "Accept"
                    await response(scope, receive, send)
                    return
                media = preferred(head.accept, page=False)
            if scope["method"] == "OPTIONS":
                await self._options(scope, head, send)
                return
            with Stopping(receive, self.options.timeout, self._watch) as stopping:
                if scope["method"] == "POST":
                    self._check_content(head)
                    message = await receive()
                    parameters = from_json(
                        self._body(message) if not message.get("more_body") else await self._rest(message, receive)
                    )
                else:
                    parameters = self._from_url(scope)
                stopping.watch()
                if media is None:
                    raise bad_request(f"The answer is {GRAPHQL_RESPONSE} or {JSON}; accept one of them", 406)
                prepared = self.service.prepare(parameters, record)
                kind = prepared.operation.kind
                if kind is OperationType.MUTATION and scope["method"] != "POST":
                    raise bad_request("Mutations must be sent by POST", 405, Allow="POST")
                if kind is OperationType.SUBSCRIPTION:
                    raise bad_request("Subscriptions must be sent over a WebSocket (graphql-transport-ws)", 422)
                result, context = await self.service.execute(prepared, scope, None, record)
        except Refused as refused:
            result = refused.result
        except RequestError as error:
            result = Result(errors=[error.with_traceback(None)])
        except Stopped as stopped:
            record.stopped = stopped.reason
            if stopped.reason == "disconnect":
                record.duration = perf_counter() - started
                self.service.observe(context, record)
                return
            result = Result(errors=[self._too_slow() if stopped.reason == "slow" else self.service.timed_out(record)])
        except Exception as error:
            result = self.service.failure(error)
        await self._answer(scope, send, receive, head, media, result, record)
        record.duration = perf_counter() - started
        self.service.observe(context, record)

    def _check_content(self, head: Head) -> None:
        """Refuse a body by what its headers say of it."""
        problem = content_type_problem(head.content_type)
        if problem is not None:
            raise bad_request(problem, 415, Accept_Post=JSON)
        if head.content_encoding is not None and head.content_encoding.lower() != b"identity":
            raise bad_request("The request body must not be compressed", 415, Accept_Encoding="identity")
        length = head.content_length
        if length is not None and length.isdigit() and int(length) > self.options.max_body:
            raise self._too_large()

    def _body(self, message: Message) -> bytes:
        """The body that came in one message, as long as it is within the limit."""
        if message["type"] == "http.disconnect":
            raise Stopped("disconnect")
        body: bytes = message.get("body", b"")
        if len(body) > self.options.max_body:
            raise self._too_large()
        return body

    async def _rest(self, message: Message, receive: Receive) -> bytes:
        """The body that comes in several messages. All that have not come whole share a bounded space."""
        options, body = self.options, bytearray(message.get("body", b""))
        self._unfinished += (size := len(body))
        try:
            while message.get("more_body", False) and size <= options.max_body:
                if size > SMALL_BODY and self._unfinished > options.max_unfinished:
                    raise self._too_many()
                message = await receive()
                body += message.get("body", b"")
                self._unfinished += len(body) - size
                size = len(body)
            return self._body({**message, "body": bytes(body)})
        finally:
            self._unfinished -= size

    def _from_url(self, scope: Scope) -> Parameters:
        """The parameters of a request that has no body."""
        if scope["method"] not in ("GET", "HEAD"):
            raise bad_request("The method must be GET or POST", 405, Allow=ALLOW)
        query_string: bytes = scope["query_string"]
        if len(query_string) > self.options.max_body:
            raise bad_request(f"The URL is longer than {self.options.max_body} bytes", 414)
        return from_query_string(query_string)

    def _too_slow(self) -> RequestError:
        return bad_request(f"The request did not arrive within {self.options.timeout:g} s", 408, Connection="close")

    @staticmethod
    def _too_many() -> RequestError:
        message = "Too many large requests arrive at once; try again"
        headers = {"Connection": "close", "Retry-After": "1"}
        return RequestError(message, "UNAVAILABLE", status=503, headers=headers)

    def _too_large(self) -> RequestError:
        return bad_request(f"The request body is larger than {self.options.max_body} bytes", 413, Connection="close")

    async def _answer(
        self,
        scope: Scope,
        send: Send,
        receive: Receive,
        head: Head,
        media: str | None,
        result: Result,
        record: OperationRecord,
    ) -> None:
        """Send the answer. The status depends on what is in it and on its media type."""
        extra: Mapping[str, str] = {}
        status = 200
        if result.errors or not result.executed:
            record.codes = tuple(code_of(error) for error in result.errors)
            if request_failed(result):
                status, extra = failure_status(result.errors)
                result = Result(errors=result.errors, extensions=result.extensions)
                media = GRAPHQL_RESPONSE
            elif media == GRAPHQL_RESPONSE:
                status = PARTIAL_SUCCESS
        body = self.engine.encode(result)
        record.status, record.bytes = status, len(body)
        headers = [CONTENT_TYPES[media or JSON], (b"x-request-id", record.request_id.encode()), NO_SNIFFING]
        headers.append(self._vary)
        if scope["method"] != "POST" or status != 200:
            headers.append(NO_STORE)
        if extra:
            headers += [(name.lower().encode(), value.encode()) for name, value in extra.items()]
        if head.origin is not None:
            headers += self._cors(head.origin)
        minimum = self.options.gzip_minimum
        if minimum is not None and len(body) >= minimum and accepts_gzip(head.accept_encoding):
            body = await self._compressed(body)
            headers.append((b"content-encoding", b"gzip"))
        headers.append((b"content-length", b"%d" % len(body)))
        if scope["method"] == "HEAD":
            body = b""
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if status == 413:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await self._drain(receive)
            body = b""
        await send({"type": "http.response.body", "body": body})

    async def _drain(self, receive: Receive) -> None:
        """Read on for a moment after a refusal: a client that is still sending would not read the answer."""
        size = 0
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while size <= self.options.max_body * DRAIN_FACTOR:
                    message: Message = await receive()
                    size += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            return

    @staticmethod
    async def _compressed(body: bytes) -> bytes:
        # Level 1: half the time of level 6 for a tenth more bytes.
        if len(body) < COMPRESS_IN_THREAD:
            return zlib.compress(body, 1, 31)
        return await asyncio.to_thread(zlib.compress, body, 1, 31)

    def _request_id(self, given: bytes | None) -> str:
        """The client's own id of the request when it is a plain word, else a new one."""
        if given and len(given) <= REQUEST_ID_LENGTH and REQUEST_ID_CHARACTERS.issuperset(given):
            return given.decode("ascii")
        self._count += 1
        return f"{self._ids}-{self._count:x}"

    def _cors(self, origin: bytes) -> list[tuple[bytes, bytes]]:
        """What lets pages of an allowed site read the answer."""
        if not self.options.origin_allowed(origin.decode("latin-1")):
            return []
        return [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", EXPOSED)]

    async def _options(self, scope: Scope, head: Head, send: Send) -> None:
        """Answer OPTIONS, of which the preflight of a browser is one (Fetch, section "CORS-preflight request")."""
        headers = [(b"allow", ALLOW.encode()), VARY_PREFLIGHT]
        if head.origin is not None and (cors := self._cors(head.origin)):
            headers += cors
            headers.append((b"access-control-allow-methods", ALLOW.encode()))
            headers.append((b"access-control-allow-headers", _asked_headers(scope)))
            headers.append((b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS))
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _asked_headers(scope: Scope) -> bytes:
    """The headers that a page of an allowed site wants to send: all that it asks for.

    Clients have headers of their own (tracing, the name of the app), of which none means anything here.
    """
    asked = b", ".join(value for name, value in scope["headers"] if name == b"access-control-request-headers")
    return asked if HEADER_NAMES.fullmatch(asked) else b"authorization, content-type, x-request-id"
