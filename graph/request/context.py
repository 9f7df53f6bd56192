"""What one operation shares: the viewer, the session, the loaders, and the way to write."""

import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from typing import Any, TypeVar
from uuid import UUID

import orjson
import strawberry
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Scope

from graph.execution.preparing.documents import Operation
from graph.request.loaders import Loaders
from graph.request.refusals import forbidden, unauthenticated
from graph.transport.addresses import Proxies
from persistence import access, throttle, tokens
from persistence.models import Base
from persistence.passwords import Passwords
from persistence.rules.errors import Forbidden
from persistence.session import Session
from persistence.settings import Settings
from persistence.viewer import Viewer
from persistence.writes import creation, idempotency, replays, rights, snapshots
from persistence.writes.idempotency import Key

P = TypeVar("P")

BEARER = "bearer "
CHECKED_TOKENS = 10_000
"""How many checked tokens a process remembers."""


@dataclass
class Services:
    """What the process shares between operations."""

    settings: Settings
    engine: AsyncEngine
    passwords: Passwords
    viewers: dict[bytes, tuple[Viewer, float]] = field(default_factory=dict)
    """By the hash of the header: who it is, and until when (monotonic seconds) that need not be asked again."""
    used_tokens: set[UUID] = field(default_factory=set)
    """Tokens used since that was written down last."""
    asking: "set[Gone]" = field(default_factory=set)
    """The checks of tokens that are under way."""
    turns: throttle.Turns = field(default_factory=throttle.Turns)
    """Whose guesses are being looked at."""

    @cached_property
    def proxies(self) -> Proxies:
        return Proxies.of(self.settings.trusted_proxies)

    def known_viewer(self, header: bytes) -> Viewer | None:
        """The viewer of an Authorization header whose secret was checked some seconds ago."""
        known = self.viewers.get(sha256(header).digest())
        return known[0] if known is not None and known[1] > time.monotonic() else None

    async def viewer(self, session: Session, header: bytes, secret: str) -> Viewer | None:
        """The viewer of the secret in a header, which stays checked for some seconds."""
        key = sha256(header).digest()
        self.viewers.pop(key, None)
        while True:
            gone = Gone()
            self.asking.add(gone)
            try:
                viewer = await tokens.authenticate(session, secret)
            finally:
                self.asking.remove(gone)
            if viewer is None:
                return None
            if viewer.id not in gone.ids and viewer.token_id not in gone.ids:
                break  # otherwise this may be what the store said before
        seconds = self.settings.token_cache_seconds
        if viewer.expires_at is not None:
            seconds = min(seconds, (viewer.expires_at - datetime.now(UTC)).total_seconds())
        if len(self.viewers) >= CHECKED_TOKENS:
            self.viewers.clear()
        self.viewers[key] = viewer, time.monotonic() + seconds
        self.used_tokens.add(viewer.token_id)
        return viewer

    def forget_viewer(self, *, token_id: UUID | None = None, user_id: UUID | None = None) -> None:
        """A token was revoked, or a user changed: ask again next time, and once more where somebody is asking now."""
        for asking in self.asking:
            asking.ids.update({token_id, user_id})
        gone = [k for k, (viewer, _) in self.viewers.items() if token_id == viewer.token_id or user_id == viewer.id]
        for key in gone:
            del self.viewers[key]


class Gone:
    """The tokens and users that were forgotten while a token was being checked."""

    def __init__(self) -> None:
        self.ids: set[UUID | None] = set()


class Context:
    """The scope of one operation (of one event, for a subscription)."""

    def __init__(self, services: Services, scope: Scope | None = None, params: Mapping[str, Any] | None = None) -> None:
        self.services, self._scope, self._params = services, scope, params
        self.session = Session(services.engine)
        self.viewer: Viewer | None = None
        self._loaders: Loaders | None = None
        self.operation: Operation | None = None
        """The prepared operation, set by the engine."""
        self.checked: Mapping[Hashable, Any] = {}
        """What checking the arguments of its fields has found out (`graph.execution.compiling.checks`)."""

    @cached_property
    def address(self) -> str:
        """Where the request comes from: one client's address or network, empty where there is no request."""
        return client_address(self._scope, self.services.proxies) if self._scope else ""

    def enter(self, *, public: bool = False) -> Awaitable[None] | None:
        """Find out who is asking, by the Authorization header or the payload with which a WebSocket was initialised.

        Raises `RequestError` (UNAUTHENTICATED) for a token that is unknown, expired or revoked. With `public` it is
        nobody then: who signs in sends what an earlier session has left, or `Bearer undefined`.
        """
        header = authorization(self._scope, self._params)
        if not header:
            return None
        self.viewer = self.services.known_viewer(header)
        return None if self.viewer is not None else self._authenticate(header, public)

    async def _authenticate(self, header: bytes, public: bool) -> None:
        text = header.decode("latin-1")
        if text[: len(BEARER)].lower() != BEARER:
            if public:
                return
            raise unauthenticated("The Authorization header must be `Bearer <token>`.")
        self.viewer = await self.services.viewer(self.session, header, text[len(BEARER) :].strip())
        if self.viewer is None and not public:
            raise unauthenticated("The token is unknown, expired or revoked.")

    def leave(self) -> Awaitable[None] | None:
        """Give back what the operation held. What loaders keep refers to the context: it is let go by hand."""
        if self._loaders is not None:
            self._loaders.clear()
        return self.session.close() if self.session.in_transaction() else None

    @property
    def loaders(self) -> Loaders:
        """The dataloaders of the operation."""
        if self._loaders is None:
            self._loaders = Loaders()
        return self._loaders

    @property
    def memo(self) -> dict[Any, Any]:
        """Where what follows from the text of the operation is kept (`graph.request.columns.once_per_field`)."""
        return {} if self.operation is None else self.operation.memo

    @cached_property
    def now(self) -> datetime:
        """The moment of the operation: the same for every field."""
        return datetime.now(UTC)

    def reader(self) -> Viewer:
        """The viewer, who must be signed in with the scope READ."""
        viewer = self.viewer
        if viewer is None:
            raise unauthenticated()
        if not viewer.may_read:
            raise forbidden("This needs a token with the scope READ.")
        return viewer

    def writer(self) -> Viewer:
        """The viewer, who must be signed in with the scope WRITE."""
        viewer = self.viewer
        if viewer is None:
            raise unauthenticated()
        if not viewer.may_write:
            raise forbidden("This needs a token with the scope WRITE.")
        return viewer

    def admin(self) -> Viewer:
        """The viewer, who must be an admin, with the scope ADMIN."""
        viewer = self.reader()
        if not access.administers(viewer):
            raise forbidden("This is for admins, with a token of the scope ADMIN.")
        return viewer

    async def write(
        self,
        payload: Callable[..., P],
        input: Any,
        work: Callable[[Session], Awaitable[Mapping[str, Any]]],
        *,
        scope_id: UUID | None = None,
    ) -> P:
        """Run the work of a mutation in one transaction, and make its payload of what the work returns.

        `work` returns the payload's fields: rows, ids, or the `secret` that is shown once. With an `idempotencyKey`
        in the input, the answer is kept in the same transaction, and a retry gets it again instead of the work.
        `scope_id` says whose key it is when nobody is signed in.
        """
        self.session.actor_id = self.viewer.id if self.viewer else None
        text, key = self._key(payload, input, scope_id)
        if text is None or key is None:
            answer = await self.session.transact(work)
            self.loaders.clear()
            return payload(**answer)
        name = payload.__name__

        async def once(session: Session) -> tuple[Mapping[str, Any], bool]:
            earlier = await idempotency.claim(session, key)
            if earlier is not None:
                return await self._shown_again(session, earlier, text, name, opens_session=scope_id is not None), True
            answer = await work(session)
            await session.flush()
            kept = {part: snapshots.snapshot(value, text, name) for part, value in answer.items()}
            await idempotency.keep(session, key, kept)
            return answer, False

        answer, replayed = await self.session.transact(once)
        self.loaders.clear()
        return payload(**answer, replayed=replayed)

    async def govern(
        self,
        payload: Callable[..., P],
        input: Any,
        work: Callable[[Session, Viewer], Awaitable[Mapping[str, Any]]],
        *,
        user_id: UUID | None = None,
        token_id: UUID | None = None,
        as_admin: bool = False,
    ) -> P:
        """Write rights, passwords or tokens: of a user, of a token's user, or of the viewer.

        As `write`, but `work` gets the viewer as the store has it in the transaction, and comes after everybody who
        has taken something away from that viewer. What it takes away itself is gone for the rest of the operation.
        """
        asked = self.writer()
        viewer: Viewer | None = asked

        async def confirmed(session: Session) -> Mapping[str, Any]:
            nonlocal viewer
            self.viewer = viewer = await rights.confirm(session, asked, user_id=user_id, token_id=token_id)
            now = self.writer()
            if as_admin and not access.administers(now):
                raise Forbidden("You are no longer an admin.")
            answer = await work(session, now)
            await session.flush()
            viewer = await rights.present(session, now)
            return answer

        try:
            written = await self.write(payload, input, confirmed)
        finally:
            self.services.forget_viewer(token_id=token_id, user_id=user_id)
            if viewer != asked:
                self.services.forget_viewer(user_id=asked.id)
        self.viewer = viewer
        return written

    async def create(
        self,
        payload: Callable[..., P],
        input: Any,
        part: str,
        model: type[Base],
        values: Mapping[str, Any],
        columns: frozenset[str],
        work: Callable[[Session], Awaitable[Mapping[str, Any]]],
    ) -> P:
        """Write a new row as `write` does, but in one statement where that can be; otherwise `work` is done.

        `part` is the payload's field of the row, which has these values and comes back with the given columns.
        """
        self.session.actor_id = self.viewer.id if self.viewer else None
        _, key = self._key(payload, input, None)
        token_id = self.viewer.token_id if self.viewer else None
        created = await creation.create(self.session, model, values, part, key, columns, token_id)
        if created is None:
            async with creation.turn(self.session, model, values):
                return await self.write(payload, input, work)
        self.loaders.clear()
        return payload(**{part: created})

    def _key(self, payload: Callable[..., Any], input: Any, scope_id: UUID | None) -> tuple[str | None, Key | None]:
        """The idempotency key of an input as it was sent and as it is kept, if it has one. Raises `Invalid`."""
        if input.idempotency_key is None:
            return None, None
        text: str = input.idempotency_key.value
        options = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
        asked = orjson.dumps([payload.__name__, input], fields_of, options)
        return text, idempotency.key_of(scope_id or self.writer().id, text, asked)

    async def kept(self, payload: Callable[..., P], input: Any) -> P | None:
        """The kept answer to an earlier request with the input's key, for what must not be checked again."""
        text, key = self._key(payload, input, None)
        if text is None or key is None:
            return None
        name = payload.__name__

        async def look(session: Session) -> dict[str, Any] | None:
            earlier = await idempotency.kept(session, key)
            return None if earlier is None else await self._shown_again(session, earlier, text, name)

        answer = await self.session.note(look)
        return None if answer is None else payload(**answer, replayed=True)

    async def _shown_again(
        self, session: Session, answer: Mapping[str, Any], key: str, purpose: str, *, opens_session: bool = False
    ) -> dict[str, Any]:
        """The parts of a kept answer. Raises `NotFound` and, when the token has ended, `RequestError`."""
        if opens_session:
            return await replays.reopened(session, answer, key, purpose)
        self.viewer = await rights.present(session, self.writer())
        return await replays.revived(session, self.writer(), answer, key, purpose)


Info = strawberry.Info[Context, None]


def fields_of(input: Any) -> dict[str, Any]:
    """What an input object holds, without what is absent and without the idempotency key itself."""
    fields = {}
    for name, item in vars(input).items():
        if item is not None and item is not strawberry.UNSET and name != "idempotency_key":
            fields[name] = item.value if type(item) is strawberry.Some else item
    return fields


def authorization(scope: Scope | None, params: Mapping[str, Any] | None) -> bytes:
    """The value of the Authorization header, or of the same name among a WebSocket's connection parameters.

    Some clients put all that would be headers below `headers` there. An empty one says nothing of the other.
    """
    said = False
    for given in (params, params.get("headers")) if params else ():
        for name, value in given.items() if isinstance(given, Mapping) else ():
            if name.lower() == "authorization" and isinstance(value, str):
                if value.strip():
                    return value.encode("latin-1", "replace")  # a token has none of what is replaced
                said = True
    if said:
        return b""
    headers = scope["headers"] if scope else ()
    for raw_name, raw_value in headers:  # Starlette's own mapping takes five times as long
        if raw_name == b"authorization":
            found: bytes = raw_value
            return found
    return b""


def client_address(scope: Scope, proxies: Proxies) -> str:
    """Where a request comes from, as what is counted as one client; proxies are believed when they are trusted."""
    peer = scope.get("client")
    if peer is None:
        return ""
    forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return proxies.client(peer[0], forwarded)
