"""Tokens: only a hash is kept, none reaches further than the one that made it, and the end is the end."""

import functools
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from persistence import access, tokens
from persistence.models import Role, Scope, Token, TokenKind
from persistence.rules.errors import Invalid, NotFound
from persistence.session import Session
from tests.conftest import Account
from tests.persistence.conftest import Raw, Write

pytestmark = pytest.mark.anyio


async def create(write: Write, account: Account, **changed: Any) -> tuple[Token, str]:
    secret = tokens.new_secret()
    values = {"id": None, "name": "laptop", "scopes": [Scope.READ], "expires_at": None, "secret": secret, **changed}
    return await write(lambda s: tokens.create(s, account.viewer, **values)), secret


async def test_a_secret_is_random_and_says_what_it_is() -> None:
    secrets = {tokens.new_secret() for _ in range(100)}

    assert len(secrets) == 100
    assert all(secret.startswith("tsk_") and len(secret) == 47 for secret in secrets)


async def test_only_a_hash_and_the_beginning_of_a_secret_are_kept(write: Write, raw: Raw, account: Account) -> None:
    token, secret = await create(write, account)

    [row] = await raw("SELECT tokens::text AS everything, secret_hash, prefix FROM tokens WHERE id = :id", id=token.id)
    assert (row.secret_hash, row.prefix) == (tokens.hashed(secret), secret[:12])
    assert secret not in row.everything
    assert len(secret) - len(row.prefix) == 35  # enough of it stays secret


async def test_a_secret_stands_for_its_user_with_the_tokens_scopes(
    write: Write, session: Session, account: Account
) -> None:
    token, secret = await create(write, account, scopes=[Scope.WRITE, Scope.READ, Scope.READ])

    viewer = await tokens.authenticate(session, secret)

    assert viewer is not None
    assert (viewer.id, viewer.role, viewer.token_id, viewer.expires_at) == (account.id, Role.MEMBER, token.id, None)
    assert viewer.scopes == {Scope.READ, Scope.WRITE}
    assert token.scopes == ["read", "write"]
    assert (viewer.may_read, viewer.may_write, access.administers(viewer)) == (True, True, False)


@pytest.mark.parametrize("secret", ["", "tsk_", "x" * 10_000, "tsk_\ud800", "\x00"])
async def test_an_unknown_secret_stands_for_nobody(session: Session, secret: str) -> None:
    assert await tokens.authenticate(session, secret) is None


async def test_an_expired_token_stands_for_nobody(write: Write, raw: Raw, session: Session, account: Account) -> None:
    token, secret = await create(write, account, expires_at=datetime.now(UTC) + timedelta(hours=1))
    found = await tokens.authenticate(session, secret)
    assert found is not None
    assert found.expires_at == token.expires_at

    await raw(
        "UPDATE tokens SET created_at = now() - interval '2 hours', expires_at = now() WHERE id = :id", id=token.id
    )

    assert await tokens.authenticate(session, secret) is None


async def test_a_revoked_token_stands_for_nobody_and_keeps_its_first_time(
    write: Write, session: Session, account: Account
) -> None:
    token, secret = await create(write, account)

    first = await write(lambda s: tokens.revoke(s, account.viewer, token.id))
    again = await write(lambda s: tokens.revoke(s, account.viewer, token.id))

    assert first.revoked_at == again.revoked_at is not None
    assert await tokens.authenticate(session, secret) is None


async def test_a_token_reaches_no_further_than_the_one_that_makes_it(write: Write, new_account: Any) -> None:
    reader = await new_account(scopes=(Scope.READ,))

    with pytest.raises(Invalid) as caught:
        await create(write, reader, scopes=[Scope.READ, Scope.WRITE, Scope.ADMIN])

    assert [(problem.code, problem.path) for problem in caught.value.problems] == [
        ("SCOPE_NOT_HELD", ("scopes", 1)),
        ("SCOPE_NOT_HELD", ("scopes", 2)),
    ]


async def test_the_scope_admin_makes_nobody_an_admin_without_the_role(
    write: Write, session: Session, account: Account, admin: Account
) -> None:
    for somebody, is_admin in ((account, False), (admin, True)):
        _, secret = await create(write, somebody, scopes=[Scope.READ, Scope.ADMIN])
        found = await tokens.authenticate(session, secret)
        assert found is not None
        assert access.administers(found) is is_admin


async def test_an_admin_without_the_scope_is_like_everybody(
    write: Write, session: Session, admin: Account, account: Account
) -> None:
    _, secret = await create(write, admin, scopes=[Scope.READ, Scope.WRITE])
    found = await tokens.authenticate(session, secret)
    assert found is not None

    assert access.listed(found, access.Reach.ALL) == admin.id, "what is the own"


async def test_a_token_of_somebody_else_is_not_found_except_by_an_admin(
    write: Write, account: Account, admin: Account, new_account: Any
) -> None:
    other = await new_account()
    answers = []
    for id in (account.viewer.token_id, uuid.uuid4()):
        with pytest.raises(NotFound) as caught:
            await write(functools.partial(tokens.revoke, viewer=other.viewer, id=id))
        answers.append((caught.value.message, caught.value.path))

    assert answers[0] == answers[1]
    revoked = await write(lambda s: tokens.revoke(s, admin.viewer, account.viewer.token_id))
    assert revoked.revoked_at is not None


async def test_ending_the_other_sessions_spares_one_and_personal_tokens(
    write: Write, session: Session, account: Account
) -> None:
    async def sign_in(session: Session, secret: str) -> Token:
        return await tokens.issue(
            session,
            account.id,
            kind=TokenKind.SESSION,
            name="Session",
            scopes=[Scope.READ],
            secret=secret,
            expires_at=None,
        )

    secrets = [tokens.new_secret() for _ in range(3)]
    sessions = [await write(functools.partial(sign_in, secret=secret)) for secret in secrets]

    await write(lambda s: tokens.revoke_sessions(s, account.id, but=sessions[0].id))

    assert [await tokens.authenticate(session, secret) is not None for secret in secrets] == [True, False, False]
    assert await tokens.authenticate(session, account.secret) is not None
    await write(lambda s: tokens.revoke_sessions(s, account.id))
    assert await tokens.authenticate(session, secrets[0]) is None


async def test_the_last_use_is_noted_without_an_edit(write: Write, raw: Raw, account: Account) -> None:
    async def times() -> Any:
        query = "SELECT last_used_at, updated_at FROM tokens WHERE id = :id"
        [row] = await raw(query, id=account.viewer.token_id)
        return row

    before = await times()

    await write(lambda s: tokens.used(s, [account.viewer.token_id, uuid.uuid4()]))

    after = await times()
    assert before.last_used_at is None
    assert after.last_used_at is not None
    assert after.updated_at == before.updated_at
