"""Answers kept for retries, in the transaction of the write that they answer.

A client that got no answer sends the same key again: it gets the first answer, and nothing is written twice.
"""

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Table, Text, bindparam, cast, delete, func, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.errors import KeyReused
from persistence.models import IdempotencyKey, Role, User
from persistence.validation import Checked, storable

KEPT_FOR = timedelta(hours=24)
KEY_MIN, KEY_MAX = 8, 255


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
    set_={"input_hash": FRESH.excluded.input_hash, "answer": None, "created_at": func.now()},
    where=TABLE.c.created_at < func.now() - KEPT_FOR,
).returning(TABLE.c.key_hash)
KEPT = select(TABLE.c.input_hash, TABLE.c.answer).where(*OF_KEY, TABLE.c.created_at >= func.now() - KEPT_FOR)
KEEP = update(TABLE).where(*OF_KEY).values(answer=bindparam("given", type_=TABLE.c.answer.type))


async def claim(session: AsyncSession, key: Key) -> dict[str, Any] | None:
    """Take the key for this transaction (None), or get the answer that it has had before.

    Waits for a concurrent transaction with the same key. Raises `KeyReused` when the input differs.
    """
    claimed = await session.scalar(CLAIM, asdict(key))
    if claimed is not None:
        return None
    return await kept(session, key)


async def kept(session: AsyncSession, key: Key) -> dict[str, Any] | None:
    """The answer that the key has had before, empty where its content was purged; None: it had none.

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
    await session.execute(KEEP, {**_of(key), "given": answer})


async def forget_old(session: AsyncSession) -> None:
    """Delete the answers whose time is over."""
    await session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < func.now() - KEPT_FOR))


async def forget_answers_of(session: AsyncSession, scope_id: UUID) -> None:
    """Delete the answers a user got, for the user's end."""
    await session.execute(delete(IdempotencyKey).where(IdempotencyKey.scope_id == scope_id))


async def forget_answers_with(session: AsyncSession, scope_ids: Collection[UUID], entity_id: UUID) -> None:
    """Empty the answers that show an entity or what it owns, for its end: those of some scopes and of all admins.

    The keys stay: a late retry must not make it again.
    """
    shown = func.strpos(cast(IdempotencyKey.answer, Text), str(entity_id)) > 0
    admins = select(User.id).where(User.role == Role.ADMIN)
    scopes = or_(IdempotencyKey.scope_id.in_(scope_ids), IdempotencyKey.scope_id.in_(admins))
    await session.execute(update(IdempotencyKey).where(scopes, shown).values(answer=null()))


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
