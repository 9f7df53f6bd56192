"""Slowing down guesses: free attempts, growing waits, and no way around by asking at once."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import throttle
from persistence.session import Session
from persistence.throttle import Policy
from tests.persistence.conftest import Raw, Write

pytestmark = pytest.mark.anyio

POLICY = Policy(free=3, longest=timedelta(minutes=1))


@pytest.fixture
def key() -> bytes:
    return throttle.subject("account", uuid.uuid4().hex)


async def attempts(write: Write, key: bytes, count: int) -> list[timedelta | None]:
    return [await write(lambda s: throttle.attempt(s, POLICY, key)) for _ in range(count)]


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
        *(Session(engine).transact(lambda s: throttle.attempt(s, POLICY, key)) for _ in range(20))
    )

    assert sum(answer is None for answer in answers) == 3


async def test_a_success_forgets_the_account_and_one_attempt_of_the_address(write: Write, raw: Raw, key: bytes) -> None:
    address = throttle.subject("address", uuid.uuid4().hex)
    await attempts(write, key, 2)
    await attempts(write, address, 3)

    await write(lambda s: throttle.succeeded(s, key, address))

    assert await failures(raw, key) == []
    assert await failures(raw, address) == [2]


async def test_successes_never_earn_an_address_attempts(write: Write, raw: Raw, key: bytes) -> None:
    address = throttle.subject("address", uuid.uuid4().hex)
    await attempts(write, address, 1)

    for _ in range(3):
        await write(lambda s: throttle.succeeded(s, key, address))

    assert await failures(raw, address) == [0]


async def test_success_of_something_that_is_both_forgets_it(write: Write, raw: Raw, key: bytes) -> None:
    await attempts(write, key, 2)

    await write(lambda s: throttle.succeeded(s, key, key))

    assert await failures(raw, key) == []


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
