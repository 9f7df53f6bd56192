"""Tokens in the API: what clients show instead of a password."""

from datetime import datetime
from enum import StrEnum

import strawberry

from graph.lists.arguments import DIRECTION, NULLS, NullsOrder, OrderDirection
from graph.request.context import Info
from graph.types.enums import described
from graph.types.node import Node, needs
from graph.writes.mutations import (
    CLIENT_ID,
    IDEMPOTENCY_KEY,
    Payload,
    client_id,
    existing_id,
    given,
    mutation,
    optional,
    rules_of,
    unless_given,
)
from persistence import tokens
from persistence.models import Scope, TokenKind
from persistence.models import Token as TokenRow
from persistence.session import Session
from persistence.viewer import Viewer


@strawberry.type(description="Something to show instead of a password. Its secret is shown once and kept nowhere.")
class Token(Node):
    name: str = strawberry.field(description="What the user calls it.")
    kind: TokenKind = strawberry.field(description="What it is for.")
    scopes: list[Scope] = strawberry.field(description="What it allows.")
    prefix: str = strawberry.field(description="How its secret begins, to recognise it by.")
    expires_at: datetime | None = strawberry.field(description="When it expires; null: never.")
    revoked_at: datetime | None = strawberry.field(description="When it was revoked.")
    last_used_at: datetime | None = strawberry.field(description="When it was used last, to the minute or so.")
    created_at: datetime = strawberry.field(description="When it was made.")

    @strawberry.field(description="Whether its time is over.", metadata=needs("expires_at"))
    def expired(self, info: Info) -> bool:
        return self.expires_at is not None and self.expires_at <= info.context.now


class TokenOrderField(StrEnum):
    CREATED_AT = "created_at"
    EXPIRES_AT = "expires_at"
    LAST_USED_AT = "last_used_at"


described(
    TokenOrderField,
    "What tokens can be sorted by.",
    {
        "CREATED_AT": "When it was made.",
        "EXPIRES_AT": "When it expires.",
        "LAST_USED_AT": "When it was used last.",
    },
)


@strawberry.input(description="A sort key of a list of tokens.")
class TokenOrder:
    field: TokenOrderField = strawberry.field(description="What to sort by.")
    direction: OrderDirection = strawberry.field(description=DIRECTION, default=OrderDirection.ASC)
    nulls: NullsOrder | None = strawberry.field(description=NULLS, default=None)


@strawberry.input(description="The token to make.")
class CreateTokenInput:
    name: str = given("What to call it: one line of 1 to 200 characters.")
    scopes: list[Scope] = given("What it allows: at most what the token of this request allows.")
    expires_at: strawberry.Maybe[datetime | None] = unless_given(
        "When it expires: at the latest when the token of this request does. Absent or null: with that one, or never."
    )
    id: strawberry.Maybe[strawberry.ID] = unless_given(CLIENT_ID)
    idempotency_key: strawberry.Maybe[str] = unless_given(IDEMPOTENCY_KEY)


@strawberry.input(description="The token to revoke.")
class RevokeTokenInput:
    id: strawberry.ID = given("The token.")
    idempotency_key: strawberry.Maybe[str] = optional(IDEMPOTENCY_KEY)


@strawberry.type(description="The new token.")
class CreateTokenPayload(Payload):
    token: Token | None = strawberry.field(description="The token.", default=None)
    secret: str | None = strawberry.field(
        description="What to send as `Authorization: Bearer <secret>`. It is shown here and never again.", default=None
    )


@strawberry.type(description="The revoked token.")
class RevokeTokenPayload(Payload):
    token: Token | None = strawberry.field(description="The token; it is refused from now on.", default=None)


@strawberry.type
class TokenMutation:
    @mutation("Make a token for a program or a script.")
    async def create_token(self, info: Info, input: CreateTokenInput) -> CreateTokenPayload:
        viewer, secret, rules = info.context.writer(), tokens.new_secret(), rules_of(input)
        id = client_id(input.id, rules)
        expires_at = input.expires_at.value if input.expires_at else None
        if rules.problems:
            tokens.checked(viewer, input.name, input.scopes, expires_at, rules)

        async def work(session: Session, viewer: Viewer) -> dict[str, TokenRow | str]:
            token = await tokens.create(
                session,
                viewer,
                id=id,
                name=input.name,
                scopes=input.scopes,
                expires_at=expires_at,
                secret=secret,
            )
            return {"token": token, "secret": secret}

        return await info.context.govern(CreateTokenPayload, input, work)

    @mutation("Revoke a token: it is refused from now on. Revoking twice is no error.")
    async def revoke_token(self, info: Info, input: RevokeTokenInput) -> RevokeTokenPayload:
        rules_of(input).done()
        id = existing_id(input.id, "token")

        async def work(session: Session, viewer: Viewer) -> dict[str, TokenRow]:
            return {"token": await tokens.revoke(session, viewer, id)}

        return await info.context.govern(RevokeTokenPayload, input, work, token_id=id)
