"""Slows down guessing and mass sign-up.

Failures are counted, not attempts: whoever knows the password is not slowed down by asking often. A guess is first
asked whether it must wait (`wait`), then looked at, then settled (`settle`) in one transaction: its answer is told only
if it need not wait by then. So guesses at once learn no more than guesses one after the other, in whatever processes.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Interval, bindparam, func, text
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.models import SignInAttempts
from persistence.writes import batches


@dataclass(frozen=True)
class Policy:
    """After `free` failures the n-th further one waits 2**n seconds, at most `longest`; a quiet day forgets them."""

    free: int
    longest: timedelta
    forgiving: bool
    """A success forgets them. Not those of an address: an account of one's own must not clear others."""


@dataclass(frozen=True)
class Rate:
    """So many in an hour, and as many at once."""

    per_hour: float


# An account cannot be locked by strangers for longer than a minute; an address can be slowed for longer.
ACCOUNT = Policy(free=5, longest=timedelta(minutes=1), forgiving=True)
ADDRESS = Policy(free=100, longest=timedelta(minutes=15), forgiving=False)
FORGET_AFTER = timedelta(days=1)

Guessed = Sequence[tuple[Policy, bytes]]
"""Whom a guess counts for: policies and keys, in one order everywhere, so that no two transactions lock crosswise."""

FAILED = text(
    """
    INSERT INTO sign_in_attempts AS a (subject, failures, last_at) VALUES (:subject, 1, now())
    ON CONFLICT (subject) DO UPDATE
        SET failures = CASE WHEN a.last_at < now() - :forget_after THEN 1 ELSE a.failures + 1 END, last_at = now()
        WHERE a.last_at + least(:longest, interval '1 second' * power(2, least(a.failures - :free, 20))) <= now()
           OR a.failures < :free
    RETURNING failures
    """
).bindparams(bindparam("longest", type_=Interval), bindparam("forget_after", type_=Interval))
FORGIVEN = text(
    """
    DELETE FROM sign_in_attempts
    WHERE subject = :subject
      AND (last_at + least(:longest, interval '1 second' * power(2, least(failures - :free, 20))) <= now()
           OR failures < :free)
    """
).bindparams(bindparam("longest", type_=Interval))
WAIT = text(
    """
    SELECT last_at + least(:longest, interval '1 second' * power(2, least(failures - :free, 20))) - now()
    FROM sign_in_attempts WHERE subject = :subject AND failures >= :free
    """
).bindparams(bindparam("longest", type_=Interval))

# `last_at` is when all that was counted is used up (the virtual scheduling algorithm of ITU-T I.371), plus one.
TAKE = text(
    """
    INSERT INTO sign_in_attempts AS a (subject, failures, last_at) VALUES (:subject, 0, now() + :interval)
    ON CONFLICT (subject) DO UPDATE SET last_at = greatest(a.last_at, now()) + :interval
        WHERE greatest(a.last_at, now()) + :interval <= now() + interval '1 hour'
    RETURNING failures
    """
).bindparams(bindparam("interval", type_=Interval))
RATE_WAIT = text(
    "SELECT last_at + :interval - now() - interval '1 hour' FROM sign_in_attempts WHERE subject = :subject"
).bindparams(bindparam("interval", type_=Interval))


def subject(kind: str, name: str) -> bytes:
    """The key of an account or an address, which names nobody."""
    return hashlib.sha256(f"{kind}:{name}".encode(errors="surrogatepass")).digest()


async def wait(session: AsyncSession, guessed: Guessed) -> timedelta | None:
    """How long a guess has to wait. None: go ahead. Nothing is counted."""
    for policy, key in guessed:
        left = await session.scalar(WAIT, limits(policy, key))
        if left is not None and left > timedelta(0):
            return at_least_a_second(left)
    return None


async def settle(session: AsyncSession, guessed: Guessed, *, right: bool) -> timedelta | None:
    """Count a guess that was looked at. None: its answer may be told; otherwise how long to wait before the next."""
    for policy, key in guessed:
        if not right:
            counted = await session.scalar(FAILED, {**limits(policy, key), "forget_after": FORGET_AFTER})
            if counted is None:
                return await wait(session, [(policy, key)]) or timedelta(seconds=1)
            continue
        if policy.forgiving:
            await session.execute(FORGIVEN, limits(policy, key))
        if left := await wait(session, [(policy, key)]):
            return left
    return None


async def take(session: AsyncSession, rate: Rate, key: bytes) -> timedelta | None:
    """Count what may be done so often. None: go ahead; otherwise how long to wait, and nothing was counted."""
    parameters = {"subject": key, "interval": timedelta(hours=1) / rate.per_hour}
    if await session.scalar(TAKE, parameters) is not None:
        return None
    return at_least_a_second(await session.scalar(RATE_WAIT, parameters) or timedelta(0))


def limits(policy: Policy, key: bytes) -> dict[str, object]:
    return {"subject": key, "free": policy.free, "longest": policy.longest}


def at_least_a_second(left: timedelta) -> timedelta:
    return max(left, timedelta(seconds=1))


class Turns:
    """Lets as many guesses for a key be looked at together as are free; the others wait until one of them is settled.

    Otherwise guesses at once would all be looked at, which costs more than to refuse them.
    """

    def __init__(self) -> None:
        self._turns: dict[bytes, tuple[asyncio.Semaphore, set[object]]] = {}

    @asynccontextmanager
    async def of(self, guessed: Guessed) -> AsyncIterator[None]:
        """The turn of a guess, from before it asks whether to wait until it is settled."""
        async with AsyncExitStack() as stack:
            for policy, key in guessed:
                await stack.enter_async_context(self._turn(policy, key))
            yield

    @asynccontextmanager
    async def _turn(self, policy: Policy, key: bytes) -> AsyncIterator[None]:
        turn, users = self._turns.setdefault(key, (asyncio.Semaphore(policy.free), set()))
        user = object()
        users.add(user)
        try:
            async with turn:
                yield
        finally:
            users.discard(user)
            if not users:
                del self._turns[key]


async def forget_old(session: AsyncSession) -> bool:
    """Forget a batch of the attempts that no longer count, and say whether there may be more."""
    gone = batches.some(SignInAttempts, SignInAttempts.last_at < func.now() - FORGET_AFTER)
    return batches.is_full(len((await session.execute(gone.returning(SignInAttempts.failures))).all()))
