"""Slows down guessing: each failed sign-in of an account, or from an address, makes the next one wait longer."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Interval, bindparam, delete, func, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.models import SignInAttempts


@dataclass(frozen=True)
class Policy:
    """After `free` attempts the n-th further one waits 2**n seconds, at most `longest`; a quiet day forgets them."""

    free: int
    longest: timedelta


# An account cannot be locked by strangers for longer than a minute; an address can be slowed for longer.
ACCOUNT = Policy(free=5, longest=timedelta(minutes=1))
ADDRESS = Policy(free=100, longest=timedelta(minutes=15))
FORGET_AFTER = timedelta(days=1)

# Counting comes before the password is looked at, so that a hundred attempts at once do not all count as the first.
ATTEMPT = text(
    """
    INSERT INTO sign_in_attempts AS a (subject, failures, last_at) VALUES (:subject, 1, now())
    ON CONFLICT (subject) DO UPDATE
        SET failures = CASE WHEN a.last_at < now() - :forget_after THEN 1 ELSE a.failures + 1 END, last_at = now()
        WHERE a.last_at + least(:longest, interval '1 second' * power(2, least(a.failures - :free, 20))) <= now()
           OR a.failures < :free
    RETURNING failures
    """
).bindparams(bindparam("longest", type_=Interval), bindparam("forget_after", type_=Interval))
WAIT = text(
    """
    SELECT last_at + least(:longest, interval '1 second' * power(2, least(failures - :free, 20))) - now()
    FROM sign_in_attempts WHERE subject = :subject
    """
).bindparams(bindparam("longest", type_=Interval))


def subject(kind: str, name: str) -> bytes:
    """The key of an account or an address, which names nobody."""
    return hashlib.sha256(f"{kind}:{name}".encode(errors="surrogatepass")).digest()


async def attempt(session: AsyncSession, policy: Policy, key: bytes) -> timedelta | None:
    """Count an attempt. None: go ahead; otherwise how long to wait, and nothing was counted."""
    limits = {"subject": key, "free": policy.free, "longest": policy.longest}
    counted = await session.scalar(ATTEMPT, {**limits, "forget_after": FORGET_AFTER})
    if counted is not None:
        return None
    wait: timedelta = await session.scalar(WAIT, limits) or timedelta(0)
    return max(wait, timedelta(seconds=1))


async def succeeded(session: AsyncSession, account: bytes, address: bytes) -> None:
    """Forget an account's attempts. Of the address, only this one: an account of one's own must not clear others."""
    await session.execute(delete(SignInAttempts).where(SignInAttempts.subject == account))
    fewer = {"failures": func.greatest(SignInAttempts.failures - 1, 0)}  # its attempts may be forgotten already
    await session.execute(update(SignInAttempts).where(SignInAttempts.subject == address).values(fewer))


async def forget_old(session: AsyncSession) -> None:
    """Forget the attempts that no longer count."""
    await session.execute(delete(SignInAttempts).where(SignInAttempts.last_at < func.now() - FORGET_AFTER))
