"""Slowing down guesses: free attempts, growing waits, and no way around by asking at once."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import throttle
from persistence.session import Session
from persistence.throttle import Policy, Rate, Turns
from tests.persistence.conftest import Raw, Write

pytestmark = pytest.mark.anyio

POLICY = Policy(free=3, longest=timedelta(minutes=1), forgiving=True)
STERN = replace(POLICY, forgiving=False)
RATE = Rate(per_hour=4)


@pytest.fixture
def key() -> bytes:
    return throttle.subject("account", uuid.uuid4().hex)


async def attempts(write: Write, key: bytes, count: int, policy: Policy = POLICY) -> list[timedelta | None]:
    """Settle wrong guesses."""
    return [await write(lambda s: throttle.settle(s, [(policy, key)], right=False)) for _ in range(count)]


async def succeed(write: Write, key: bytes, policy: Policy = POLICY) -> timedelta | None:
    return await write(lambda s: throttle.settle(s, [(policy, key)], right=True))


async def pass_time(raw: Raw, key: bytes, seconds: float) -> None:
    await raw(
        "UPDATE sign_in_attempts SET last_at = last_at - :seconds * interval '1 second' WHERE subject = :key",
        seconds=seconds,
        key=key,
    )


async def failures(raw: Raw, key: bytes) -> list[int]:
    return [row.failures for row in await raw("SELECT failures FROM sign_in_attempts WHERE subject = :key", key=key)]


async def test_the_first_attempts_are_free_and_the_next_has_to_wait(write: Write, key: bytes) -> None:
    *free, waits = await attempts(write, key, 4)

    assert free == [None] * 3
    assert waits is not None
    assert timedelta(0) < waits <= timedelta(seconds=1)


async def test_an_attempt_that_has_to_wait_does_not_count(write: Write, raw: Raw, key: bytes) -> None:
    await attempts(write, key, 10)

    assert await failures(raw, key) == [3]


async def test_each_further_attempt_doubles_the_wait_up_to_the_longest(write: Write, raw: Raw, key: bytes) -> None:
    await attempts(write, key, 3)
    waits = []
    for _ in range(9):
        [wait] = await attempts(write, key, 1)
        assert wait is not None
        waits.append(round(wait.total_seconds()))
        await pass_time(raw, key, wait.total_seconds() + 0.1)
        assert await attempts(write, key, 1) == [None]

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_a_quiet_day_forgets(write: Write, raw: Raw, key: bytes) -> None:
    await attempts(write, key, 3)
    await pass_time(raw, key, 24 * 3600 + 1)

    assert await attempts(write, key, 3) == [None] * 3
    assert await failures(raw, key) == [3]


async def test_attempts_at_once_are_all_counted(engine: AsyncEngine, key: bytes) -> None:
    answers = await asyncio.gather(
        *(Session(engine).transact(lambda s: throttle.settle(s, [(POLICY, key)], right=False)) for _ in range(20))
    )

    assert sum(answer is None for answer in answers) == 3


async def test_to_ask_whether_to_wait_counts_nothing(write: Write, raw: Raw, key: bytes) -> None:
    before = await write(lambda s: throttle.wait(s, [(POLICY, key)]))
    await attempts(write, key, 2)
    between = await write(lambda s: throttle.wait(s, [(POLICY, key)]))
    await attempts(write, key, 1)
    after = await write(lambda s: throttle.wait(s, [(POLICY, key)]))

    assert (before, between, after) == (None, None, timedelta(seconds=1))
    assert await failures(raw, key) == [3]


async def test_a_success_forgets_the_account_and_nothing_of_the_address(write: Write, raw: Raw, key: bytes) -> None:
    address = throttle.subject("address", uuid.uuid4().hex)
    await attempts(write, key, 2)
    await attempts(write, address, 2, STERN)

    told = await write(lambda s: throttle.settle(s, [(STERN, address), (POLICY, key)], right=True))

    assert told is None
    assert await failures(raw, key) == []
    assert await failures(raw, address) == [2]


async def test_a_right_guess_is_not_told_to_who_must_wait(write: Write, raw: Raw, key: bytes) -> None:
    await attempts(write, key, 3)

    assert await succeed(write, key) == timedelta(seconds=1)
    assert await failures(raw, key) == [3]
    await pass_time(raw, key, 1.1)
    assert await succeed(write, key) is None
    assert await failures(raw, key) == []


async def test_a_right_guess_is_not_told_to_an_address_that_must_wait(write: Write, raw: Raw, key: bytes) -> None:
    await attempts(write, key, 3, STERN)

    assert await succeed(write, key, STERN) == timedelta(seconds=1)
    assert await failures(raw, key) == [3]


async def test_guesses_at_once_learn_no_more_than_one_after_the_other(engine: AsyncEngine, key: bytes) -> None:
    """As in several processes: each was let in before any other was settled. The last one is right."""
    guesses = [False] * 20 + [True]
    told = [
        await Session(engine).transact(partial(throttle.settle, guessed=[(POLICY, key)], right=right))
        for right in guesses
    ]

    assert [answer is None for answer in told] == [True] * 3 + [False] * 18


async def test_right_guesses_at_once_are_all_told(engine: AsyncEngine, key: bytes) -> None:
    told = await asyncio.gather(
        *(Session(engine).transact(lambda s: throttle.settle(s, [(POLICY, key)], right=True)) for _ in range(20))
    )

    assert told == [None] * 20


async def test_as_many_guesses_are_looked_at_together_as_are_free(key: bytes) -> None:
    turns, together, most, ended = Turns(), 0, 0, 0

    async def guess() -> None:
        nonlocal together, most, ended
        async with turns.of([(STERN, b"address"), (POLICY, key)]):
            together += 1
            most = max(most, together)
            try:
                await asyncio.sleep(0.01)
                ended += 1
            finally:
                together -= 1

    given_up = asyncio.create_task(guess())
    tasks = [asyncio.create_task(guess()) for _ in range(12)]
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(*tasks)

    assert (most, ended) == (3, 12)
    assert turns._turns == {}  # nothing is left of who came by


async def test_so_much_is_taken_at_once_and_the_rest_at_its_rate(write: Write, raw: Raw, key: bytes) -> None:
    first = [await write(lambda s: throttle.take(s, RATE, key)) for _ in range(6)]
    await pass_time(raw, key, 15 * 60)
    later = [await write(lambda s: throttle.take(s, RATE, key)) for _ in range(2)]

    assert [wait is None for wait in first] == [True] * 4 + [False] * 2
    assert first[4] is not None
    assert timedelta(minutes=14) < first[4] <= timedelta(minutes=15)
    assert [wait is None for wait in later] == [True, False]


async def test_what_is_taken_at_once_is_counted_exactly(engine: AsyncEngine, key: bytes) -> None:
    answers = await asyncio.gather(
        *(Session(engine).transact(lambda s: throttle.take(s, RATE, key)) for _ in range(20))
    )

    assert sum(answer is None for answer in answers) == 4


async def test_old_attempts_are_cleared_away(write: Write, raw: Raw, key: bytes) -> None:
    await attempts(write, key, 1)
    await write(throttle.forget_old)
    assert await failures(raw, key) == [1]
    await pass_time(raw, key, 24 * 3600 + 1)

    await write(throttle.forget_old)

    assert await failures(raw, key) == []


async def test_subjects_name_nobody_and_differ_by_kind() -> None:
    keys = {throttle.subject(kind, name) for kind in ("account", "address") for name in ("a", "b", "\ud800")}

    assert len(keys) == 6
    assert {len(key) for key in keys} == {32}
