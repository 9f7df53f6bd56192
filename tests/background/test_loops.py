"""Running loops: again and again, whatever fails."""

import asyncio

import pytest

from background.loops import Loop, run

pytestmark = pytest.mark.anyio


async def test_a_loop_that_fails_is_run_again_and_keeps_no_other_from_running() -> None:
    ran = {"fails": 0, "works": 0}
    enough = asyncio.Event()

    async def fails() -> None:
        ran["fails"] += 1
        raise ValueError("content of a row")

    async def works() -> None:
        ran["works"] += 1
        if min(ran.values()) >= 3:
            enough.set()

    running = asyncio.create_task(run([Loop(fails, 0.0), Loop(works, 0.0)]))
    await enough.wait()
    running.cancel()

    assert min(ran.values()) >= 3


async def test_the_first_time_may_come_sooner_than_the_others() -> None:
    ran = asyncio.Event()

    async def work() -> None:
        ran.set()

    running = asyncio.create_task(run([Loop(work, seconds=3600.0, first=0.0)]))
    await ran.wait()
    running.cancel()
