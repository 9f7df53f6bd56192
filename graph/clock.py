"""The time of the server, as the events of a subscription."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

import strawberry

from graph.request.context import Info
from graph.request.refusals import bad_argument

SHORTEST, LONGEST = 0.1, 3600.0

EverySeconds = Annotated[
    float,
    strawberry.argument(description=f"Seconds between two events: {SHORTEST:g} to {LONGEST:g}."),
]


@strawberry.type
class ClockSubscription:
    @strawberry.subscription(
        description="The time of the server, at once and then again and again: shows that the connection is alive."
    )
    async def server_time(self, info: Info, every_seconds: EverySeconds = 1.0) -> AsyncIterator[datetime]:
        info.context.reader()
        if not SHORTEST <= every_seconds <= LONGEST:
            raise bad_argument("everySeconds", f"{every_seconds:g} seconds; {SHORTEST:g} to {LONGEST:g} are allowed.")
        while True:
            yield datetime.now(UTC)
            await asyncio.sleep(every_seconds)
