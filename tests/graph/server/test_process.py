"""What happens before the server runs."""

import asyncio
import signal

import pytest

from graph.server.process import terminated_cleanly


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_start_also_in_a_callback_of_the_loop(number: signal.Signals) -> None:
    """Where a connection reads what came, say: asyncio keeps most exceptions there, and the start would go on."""
    went_on = False

    async def step() -> None:
        asyncio.get_running_loop().call_soon(signal.raise_signal, number)
        await asyncio.sleep(0.1)

    with terminated_cleanly():
        asyncio.run(step())
        went_on = True

    assert not went_on


def test_a_signal_lets_the_steps_of_a_start_close_what_they_opened() -> None:
    closed = False

    async def step() -> None:
        nonlocal closed
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0)
            closed = True

    with terminated_cleanly():
        asyncio.run(step())

    assert closed


def test_what_is_cancelled_without_a_signal_is_not_taken_for_a_stop() -> None:
    with pytest.raises(asyncio.CancelledError), terminated_cleanly():
        raise asyncio.CancelledError


def test_what_fails_because_of_the_signal_is_no_failure_of_the_start() -> None:
    async def step() -> None:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        try:
            await asyncio.sleep(10)
        finally:
            raise ConnectionError("another operation is in progress")

    with terminated_cleanly():
        asyncio.run(step())


def test_a_failure_without_a_signal_is_one() -> None:
    with pytest.raises(ConnectionError), terminated_cleanly():
        raise ConnectionError
