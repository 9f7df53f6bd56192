"""What people do with their own account: signing up, in and out, changing and deleting it."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import strawberry

from graph.request.context import Context, Info
from graph.request.refusals import unauthenticated
from graph.tokens import Token
from graph.users import EMAIL, NAME, PASSWORD, TIME_ZONE, User, new_account
from graph.writes.mutations import (
    CLIENT_ID,
    IDEMPOTENCY_KEY,
    IF_VERSION,
    Payload,
    client_id,
    given,
    if_version,
    mutation,
    optional,
    present,
    rules_of,
    unless_given,
)
from persistence import access, throttle, tokens, users
from persistence.models import Role, TokenKind
from persistence.models import Token as TokenRow
from persistence.models import User as UserRow
from persistence.rules.addresses import spellings
from persistence.rules.errors import Code, DomainError, Forbidden, Invalid, LimitReached, Problem
from persistence.session import Session
from persistence.viewer import Viewer
from persistence.writes import idempotency


@strawberry.input(description="The account to make.")
class SignUpInput:
    email: str = given(EMAIL)
    name: str = given(NAME)
    password: str = given(PASSWORD)
    time_zone: str | None = unless_given(TIME_ZONE, "UTC")
    id: strawberry.Maybe[strawberry.ID] = unless_given(CLIENT_ID)
    idempotency_key: strawberry.Maybe[str] = unless_given(IDEMPOTENCY_KEY)


@strawberry.input(description="Who wants to sign in.")
class SignInInput:
    email: str = given(EMAIL)
    password: str = given("The password.")
    idempotency_key: strawberry.Maybe[str] = unless_given(IDEMPOTENCY_KEY)


@strawberry.input(description="Ends the session whose token is sent.")
class SignOutInput:
    idempotency_key: strawberry.Maybe[str] = optional(IDEMPOTENCY_KEY)


@strawberry.input(description="What to change of the own account. What is absent stays as it is.")
class UpdateViewerInput:
    if_version: strawberry.Maybe[int] = optional(IF_VERSION)
    name: strawberry.Maybe[str] = optional(NAME)
    time_zone: strawberry.Maybe[str] = optional(TIME_ZONE)
    idempotency_key: strawberry.Maybe[str] = optional(IDEMPOTENCY_KEY)


@strawberry.input(description="The own password, old and new.")
class ChangePasswordInput:
    if_version: strawberry.Maybe[int] = optional(IF_VERSION)
    current_password: str = given("The password so far.")
    new_password: str = given("The new password: at least 10 characters, without blanks at its ends.")
    idempotency_key: strawberry.Maybe[str] = optional(IDEMPOTENCY_KEY)


@strawberry.input(description="Deletes the own account with all that it owns.")
class DeleteViewerInput:
    if_version: strawberry.Maybe[int] = optional(IF_VERSION)
    password: str = given("The password, so that nobody deletes an account by a token alone.")
    idempotency_key: strawberry.Maybe[str] = optional(IDEMPOTENCY_KEY)


@strawberry.type
class SessionPayload(Payload):
    user: User | None = strawberry.field(description="Who is signed in; null when there are errors.", default=None)
    token: Token | None = strawberry.field(description="The token of the session.", default=None)
    secret: str | None = strawberry.field(
        description="What to send as `Authorization: Bearer <secret>`. It is shown here and never again.", default=None
    )


S = TypeVar("S", bound=SessionPayload)


@strawberry.type(description="The new user, signed in.")
class SignUpPayload(SessionPayload):
    pass


@strawberry.type(description="The user, signed in.")
class SignInPayload(SessionPayload):
    pass


@strawberry.type(description="The session that ended.")
class SignOutPayload(Payload):
    token: Token | None = strawberry.field(description="Its token, which is refused from now on.", default=None)


@strawberry.type(description="The changed account.")
class UpdateViewerPayload(Payload):
    user: User | None = strawberry.field(description="The viewer; null when there are errors.", default=None)


@strawberry.type(description="The account with the new password. All other sessions have ended.")
class ChangePasswordPayload(Payload):
    user: User | None = strawberry.field(description="The viewer; null when there are errors.", default=None)


@strawberry.type(description="The account that is no more.")
class DeleteViewerPayload(Payload):
    deleted_user_id: strawberry.ID | None = strawberry.field(
        description="The id of the user who is no more; null when there are errors.", default=None
    )


@strawberry.type
class AccountMutation:
    @mutation("Make an account and sign in.", public=True)
    async def sign_up(self, info: Info, input: SignUpInput) -> SignUpPayload:
        context = info.context
        if not context.services.settings.sign_up:
            raise Forbidden("Sign-up is closed here; ask an admin for an account.")
        rules = rules_of(input)
        id, account = client_id(input.id, rules), new_account(input, rules)
        rules.done()
        await allow_sign_up(context)
        password_hash = await context.services.passwords.hash(input.password)
        secret = tokens.new_secret()

        async def work(session: Session) -> dict[str, Any]:
            user = await users.create(session, id=id, password_hash=password_hash, **account)
            return {"user": user, "token": await open_session(session, context, user, secret), "secret": secret}

        payload = await context.write(SignUpPayload, input, work, scope_id=idempotency.anonymous(account["email"]))
        return signed_in(context, payload)

    @mutation("Sign in with a password. Repeated failures have to wait longer and longer.", public=True)
    async def sign_in(self, info: Info, input: SignInInput) -> SignInPayload:
        context = info.context
        rules_of(input).done()
        account = await verified(context, input.email, input.password)
        secret = tokens.new_secret()

        async def work(session: Session) -> dict[str, Any]:
            user = await users.opened_by(session, account.id, account.password_hash)
            if user is None:  # deleted since the password was verified, or it is another password
                raise wrong_credentials()
            return {"user": user, "token": await open_session(session, context, user, secret), "secret": secret}

        payload = await context.write(SignInPayload, input, work, scope_id=account.id)
        return signed_in(context, payload)

    @mutation("Sign out: the token of this request is refused from now on.")
    async def sign_out(self, info: Info, input: SignOutInput | None = None) -> SignOutPayload:
        viewer, input = info.context.writer(), input or SignOutInput(idempotency_key=None)
        rules_of(input).done()

        async def work(session: Session, viewer: Viewer) -> dict[str, TokenRow]:
            return {"token": await tokens.revoke(session, viewer, viewer.token_id)}

        return await info.context.govern(SignOutPayload, input, work, token_id=viewer.token_id)

    @mutation("Change the own account.")
    async def update_viewer(self, info: Info, input: UpdateViewerInput) -> UpdateViewerPayload:
        viewer, values = info.context.writer(), present(input, UserRow)
        users.checked(values, rules_of(input))

        async def work(session: Session) -> dict[str, UserRow]:
            return {"user": await users.update(session, viewer, viewer.id, values, if_version=if_version(input))}

        return await info.context.write(UpdateViewerPayload, input, work)

    @mutation("Change the own password. All other sessions end.")
    async def change_password(self, info: Info, input: ChangePasswordInput) -> ChangePasswordPayload:
        context, viewer = info.context, info.context.writer()
        rules = rules_of(input)
        rules.password(input.new_password, "newPassword")
        rules.done()
        if kept := await context.kept(ChangePasswordPayload, input):
            return kept  # the current password is the new one by now
        try:
            confirmed = await confirm_password(context, viewer, input.current_password, "currentPassword")
        except DomainError:
            if kept := await context.kept(ChangePasswordPayload, input):
                return kept  # the first request was still at it when this one came
            raise
        password_hash = await context.services.passwords.hash(input.new_password)

        async def work(session: Session, viewer: Viewer) -> dict[str, UserRow]:
            await still_confirmed(session, viewer, confirmed, "currentPassword")
            values = {"password_hash": password_hash}
            user = await users.update(session, viewer, viewer.id, values, if_version=if_version(input))
            await tokens.revoke_sessions(session, viewer.id, but=viewer.token_id)
            return {"user": user}

        return await context.govern(ChangePasswordPayload, input, work, user_id=viewer.id)

    @mutation("Delete the own account and all that it owns, for good.")
    async def delete_viewer(self, info: Info, input: DeleteViewerInput) -> DeleteViewerPayload:
        context, viewer = info.context, info.context.writer()
        rules_of(input).done()
        confirmed = await confirm_password(context, viewer, input.password, "password")

        async def work(session: Session, viewer: Viewer) -> dict[str, UUID]:
            await still_confirmed(session, viewer, confirmed, "password")
            return {"deleted_user_id": await users.delete(session, viewer, viewer.id, if_version=if_version(input))}

        return await context.govern(DeleteViewerPayload, input, work, user_id=viewer.id)


async def allow_sign_up(context: Context) -> None:
    """Count a sign-up of an address. Raises `LimitReached`."""
    rate = throttle.Rate(context.services.settings.sign_ups_per_hour)
    key = throttle.subject("sign-up", context.address)
    if wait := await context.session.note(partial(throttle.take, rate=rate, key=key)):
        seconds = math.ceil(wait.total_seconds())
        message = f"Too many accounts were made from your address; try again in {seconds} s."
        raise LimitReached(message, code="SIGN_UP_THROTTLED", retry_after=wait)


async def verified(context: Context, typed: str, password: str) -> Any:
    """The `id` of the account that the password opens, and the `password_hash` that it was verified with.

    An unknown address takes as long as a wrong password and gets the same answer. Raises `LimitReached` for who must
    wait, and `Invalid`.
    """
    guessed = [
        (throttle.ADDRESS, throttle.subject("address", context.address)),
        (throttle.ACCOUNT, throttle.subject("account", spellings(typed)[-1])),
    ]
    async with guess(context, guessed, "Too many attempts to sign in", code="SIGN_IN_THROTTLED") as settle:
        account = await users.found_by(context.session, typed)
        stored = account.password_hash if account else None
        right = await context.services.passwords.verify(password, stored)
        await settle(right)
    if not right or account is None:
        raise wrong_credentials()
    return account


@asynccontextmanager
async def guess(
    context: Context, guessed: throttle.Guessed, message: str, *, code: Code
) -> AsyncIterator[Callable[[bool], Awaitable[None]]]:
    """The time in which a guess is looked at. It ends with the call of what is yielded, with whether it was right.

    Both may raise `LimitReached`; then nothing may be told of the guess. Who hangs up meanwhile has learned nothing of
    the account, but has made the server work, which counts for the address.
    """

    def refused(wait: timedelta) -> LimitReached:
        seconds = math.ceil(wait.total_seconds())
        return LimitReached(f"{message}; try again in {seconds} s.", code=code, retry_after=wait)

    async def settle(right: bool) -> None:
        if wait := await context.session.note(partial(throttle.settle, guessed=guessed, right=right)):
            raise refused(wait)

    async with context.services.turns.of(guessed):
        if wait := await context.session.note(partial(throttle.wait, guessed=guessed)):
            raise refused(wait)
        try:
            yield settle
        except asyncio.CancelledError:
            addresses = [(policy, key) for policy, key in guessed if not policy.forgiving]
            with suppress(Exception):
                await context.session.note(partial(throttle.settle, guessed=addresses, right=False))
            raise


def wrong_credentials() -> Invalid:
    return Invalid([Problem("WRONG_CREDENTIALS", "The address or the password is wrong.")])


async def confirm_password(context: Context, viewer: Viewer, password: str, field: str) -> str:
    """Make sure that it is the viewer and not just the viewer's token. Slowed down like signing in.

    Returns the hash that it was verified with, for `still_confirmed`: verifying takes too long for a transaction.
    Raises `LimitReached`, `Invalid`, and `RequestError` where the account is gone.
    """
    guessed = [(throttle.ACCOUNT, throttle.subject("viewer", str(viewer.id)))]
    async with guess(context, guessed, "Too many attempts", code="PASSWORD_THROTTLED") as settle:
        row = await users.password_hash(context.session, viewer.id)
        if row is None:  # the account was deleted, by another process maybe
            raise unauthenticated("The token is unknown, expired or revoked.")
        right = await context.services.passwords.verify(password, row)
        await settle(right)
    if not right:
        raise wrong_password(field)
    return row


async def still_confirmed(session: Session, viewer: Viewer, confirmed: str, field: str) -> None:
    """Make sure that the password that was verified is still the one, in the transaction that relies on it."""
    if await users.password_hash(session, viewer.id) != confirmed:
        raise wrong_password(field)


def wrong_password(field: str) -> Invalid:
    return Invalid([Problem("WRONG_PASSWORD", "The password is wrong.", (field,))])


async def open_session(session: Session, context: Context, user: UserRow, secret: str) -> TokenRow:
    session.actor_id = user.id
    days = context.services.settings.session_days
    return await tokens.issue(
        session,
        user.id,
        kind=TokenKind.SESSION,
        name="Session",
        scopes=access.scopes_of(user.role),
        secret=secret,
        expires_at=datetime.now(UTC) + timedelta(days=days),
    )


def signed_in(context: Context, payload: S) -> S:
    """From here on the operation is the new viewer's: the payload's user may be asked for more.

    Its rows come from the store, in a retry too (`persistence.writes.replays.reopened`).
    """
    user: Any = payload.user
    token: Any = payload.token
    context.viewer = Viewer(user.id, Role(user.role), frozenset(token.scopes), token.id, token.expires_at)
    return payload
