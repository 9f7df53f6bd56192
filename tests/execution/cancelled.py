"""Work that never ends by itself."""

import asyncio
from typing import NoReturn


async def until_cancelled(events: list[str]) -> NoReturn:
    """Wait to be cancelled, and note that it was, and that it could clean up."""
    try:
        await asyncio.Event().wait()
    finally:
        events.append("cancelled")
        await asyncio.sleep(0)
        events.append("cleaned up")
    raise AssertionError("nobody sets this event")
