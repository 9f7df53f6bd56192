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
