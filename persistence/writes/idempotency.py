"""Answers kept for retries, in the transaction of the write that they answer.

A client that got no answer sends the same key again: it gets the first answer, and nothing is written twice.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Table, bindparam, delete, func, null, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.access import OWNER_NAMES
from persistence.models import IdempotencyKey, Token, TokenKind
from persistence.rules.errors import KeyReused
from persistence.rules.validation import Checked, storable
from persistence.writes import batches

KEPT_FOR = timedelta(hours=24)
KEY_MIN, KEY_MAX = 8, 255
ENTITY = "__entity__"
"""The member of a row in an answer that says which entity it is (`persistence.writes.snapshots`)."""


@dataclass(frozen=True, slots=True)
class Key:
    """One client's key for one input. `scope_id` is the viewer, or what stands for an anonymous client."""

    scope_id: UUID
    key_hash: bytes
    input_hash: bytes


def key_of(scope_id: UUID, key: str, asked: bytes) -> Key:
    """The key with a hash of what was asked for with it: a mutation and its input, always in one form.

    Raises `Invalid`.
    """
    rules = Checked()
    check_key(rules, key)
    rules.done()
    # Keyed with what is not stored, so that a password in the input cannot be guessed from the hash (RFC 7693, section
    # 2.9; 1.3 us, where HMAC-SHA256 takes 3.0).
    secret = hashlib.blake2b(key.encode()).digest()
    input_hash = hashlib.blake2b(asked, key=secret, digest_size=32).digest()
    return Key(scope_id, hashlib.sha256(key.encode()).digest(), input_hash)


def check_key(rules: Checked, key: str) -> None:
    if not KEY_MIN <= len(key) <= KEY_MAX or not storable(key):
        message = f"An idempotency key has {KEY_MIN} to {KEY_MAX} characters; a new UUID is a good one."
        rules.add("INVALID_KEY", message, "idempotencyKey")


def anonymous(name: str) -> UUID:
    """What stands for a client that is nobody yet: derived from the account it names."""
    return UUID(bytes=hashlib.sha256(f"anonymous:{name}".encode(errors="surrogatepass")).digest()[:16])


# Every keyed mutation runs these, so they are built once, of the table rather than of the entity.
TABLE = IdempotencyKey.__table__
assert isinstance(TABLE, Table)
OF_KEY = (TABLE.c.scope_id == bindparam("of_scope"), TABLE.c.key_hash == bindparam("of_key"))
FRESH = insert(TABLE)
CLAIM = FRESH.on_conflict_do_update(
    index_elements=["scope_id", "key_hash"],
    set_={
        "input_hash": FRESH.excluded.input_hash,
        "answer": None,
        "entity_id": None,
        "owner_id": None,
        "created_at": func.now(),
    },
    where=TABLE.c.created_at < func.now() - KEPT_FOR,
).returning(TABLE.c.key_hash)
KEPT = select(TABLE.c.input_hash, TABLE.c.answer).where(*OF_KEY, TABLE.c.created_at >= func.now() - KEPT_FOR)
KEEP = (
    update(TABLE)
    .where(*OF_KEY)
    .values(
        answer=bindparam("given", type_=TABLE.c.answer.type),
        entity_id=bindparam("shown", type_=TABLE.c.entity_id.type),
        owner_id=bindparam("owner", type_=TABLE.c.owner_id.type),
    )
)


async def claim(session: AsyncSession, key: Key) -> dict[str, Any] | None:
    """Take the key for this transaction (None), or get the answer that it has had before.

    Waits for a concurrent transaction with the same key. Raises `KeyReused` when the input differs.
    """
    claimed = await session.scalar(CLAIM, asdict(key))
    if claimed is not None:
        return None
    return await kept(session, key)


async def kept(session: AsyncSession, key: Key) -> dict[str, Any] | None:
    """The answer that the key has had before, empty where its content was taken out; None: it had none.

    Raises `KeyReused` when the input differs.
    """
    row = (await session.execute(KEPT, _of(key))).one_or_none()
    if row is None:
        return None
    if not hmac.compare_digest(row.input_hash, key.input_hash):
        raise KeyReused
    answer: dict[str, Any] = row.answer or {}
    return answer


async def keep(session: AsyncSession, key: Key, answer: Mapping[str, Any]) -> None:
    """Keep the answer of the transaction that claimed the key."""
    entity_id, owner_id = shown(answer)
    await session.execute(KEEP, {**_of(key), "given": answer, "shown": entity_id, "owner": owner_id})


def shown(answer: Mapping[str, Any]) -> tuple[UUID | None, UUID | None]:
    """The entity that an answer shows and who owns it, so that it can be found; none where it shows only an id.

    It may show the owner beside it: of a session, which shows its user and its token, the token is the entity.
    """
    entity_id = owner_id = None
    for part in answer.values():
        if isinstance(part, Mapping) and ENTITY in part:
            id, owner = UUID(part["id"]), UUID(part[OWNER_NAMES[part[ENTITY]]])
            assert owner_id in (None, owner), "an answer shows what is one user's"
            owner_id = owner
            entity_id = id if entity_id is None or id != owner else entity_id
    return entity_id, owner_id


async def forget_old(session: AsyncSession, after: datetime | None = None) -> datetime | None:
    """Delete a batch of the answers whose time is over, the oldest first, and say after which moment to go on.

    None: that was all, but for those that somebody has locked. Each batch begins where the one before has ended: what
    was deleted stays in the index until the next VACUUM, and would be looked at again every time.
    """
    over = [IdempotencyKey.created_at < func.now() - KEPT_FOR]
    if after is not None:
        over.append(IdempotencyKey.created_at >= after)
    created_at = IdempotencyKey.created_at
    gone = batches.some(IdempotencyKey, *over, order=created_at).returning(created_at).cte("gone")
    count, last = (await session.execute(select(func.count(), func.max(gone.c.created_at)))).one()
    return last if batches.is_full(count) else None


async def forget_some_of(session: AsyncSession, user_id: UUID, limit: int) -> bool:
    """Delete a batch of the answers a user got, and empty one of those of others that show what the user owns, for the
    user's end. Whether there may be more.
    """
    key = tuple_(IdempotencyKey.scope_id, IdempotencyKey.key_hash)
    rows = select(IdempotencyKey.scope_id, IdempotencyKey.key_hash).limit(limit).with_for_update()
    own = rows.where(IdempotencyKey.scope_id == user_id).cte("own")
    shown = (IdempotencyKey.owner_id == user_id, IdempotencyKey.owner_id != IdempotencyKey.scope_id)
    of_others = rows.where(*shown, IdempotencyKey.answer.is_not(None)).cte("of_others")
    gone = delete(IdempotencyKey).where(key.in_(select(own)))
    emptied = update(IdempotencyKey).where(key.in_(select(of_others))).values(answer=null())
    counts = [len((await session.scalars(done.returning(IdempotencyKey.scope_id))).all()) for done in (gone, emptied)]
    return max(counts) >= limit


async def forget_answers_with(session: AsyncSession, entity_id: UUID, owner_id: UUID) -> None:
    """Empty the answers that show an entity, whoever got them, for its end."""
    await _empty(session, IdempotencyKey.entity_id == entity_id, IdempotencyKey.owner_id == owner_id)


async def forget_sessions_of(session: AsyncSession, user_id: UUID) -> None:
    """Empty the answers that opened a user's sessions: a new password ends what was signed in with the old one."""
    sessions = select(Token.id).where(Token.user_id == user_id, Token.kind == TokenKind.SESSION)
    await _empty(session, IdempotencyKey.entity_id.in_(sessions), IdempotencyKey.owner_id == user_id)


async def _empty(session: AsyncSession, *which: ColumnElement[bool]) -> None:
    """Take the content out of answers. The keys stay: a late retry must not do it again."""
    await session.execute(
        update(IdempotencyKey).where(*which, IdempotencyKey.answer.is_not(None)).values(answer=null())
    )


def _of(key: Key) -> dict[str, Any]:
    return {"of_scope": key.scope_id, "of_key": key.key_hash}


def sealed(secret: str, key: str, purpose: str) -> str:
    """A secret so that only who has the idempotency key can read it: a stream of HMAC-SHA256 (RFC 2104) over it.

    The secret is shown once; a retry of that one answer must show it again, and the store keeps neither the
    secret nor, in a form that opens this, the key.
    """
    return _xor(secret.encode(), key, purpose).hex()


def unsealed(text: str, key: str, purpose: str) -> str:
    """The secret that `sealed` hid."""
    return _xor(bytes.fromhex(text), key, purpose).decode()


def _xor(data: bytes, key: str, purpose: str) -> bytes:
    stream = b""
    while len(stream) < len(data):
        stream += hmac.digest(key.encode(), f"{purpose}:{len(stream)}".encode(), "sha256")
    return bytes(a ^ b for a, b in zip(data, stream, strict=False))
