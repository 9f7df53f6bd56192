"""Budgets of cost points that refill with time: who may spend how much.

A budget is a token bucket per key: it holds at most `capacity` points, regains `refill` points a second, and an
operation takes its points out before it runs. `MemoryBudget` is for one process; several processes share a budget that
is kept elsewhere by giving the endpoint another `Budget`.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

from graph.execution.errors import RequestError

RATE_LIMITED = "RATE_LIMITED"

# The last second that a datetime can say: what never refills is full again then.
END_OF_TIME = 253402300799

# Points that are missing where it has refilled between the refusal and the look at what is left.
SOON = 1e-6


@dataclass(slots=True)
class Balance:
    """What is left after taking points, or the refusal to take them.

    `remaining` are points, `resets_at` is when the budget will be full again (seconds since 1970), `retry_after` are
    the seconds until the refused points are there (0 when they were taken, infinite when they never will be).
    """

    remaining: int
    resets_at: float
    retry_after: float = 0.0

    @property
    def resets(self) -> str:
        """`resets_at` to the full second, as it is shown to clients (RFC 3339)."""
        return _shown(math.ceil(min(self.resets_at, END_OF_TIME)))


@lru_cache(64)
def _shown(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().replace("+00:00", "Z")


class Budget(Protocol):
    """Where budgets are kept. Taking 0 points only looks."""

    def take(self, key: str, points: int) -> Balance | Awaitable[Balance]:
        """Take points out of the budget of a key, or nothing when there are not enough (see `Balance`)."""
        ...


class MemoryBudget:
    """Budgets in the memory of this process, for at most `max_keys` keys.

    The keys that were used least recently are forgotten first, which gives them a full budget: with fewer keys than
    active viewers the limit is soft, memory is not.
    """

    def __init__(
        self,
        *,
        capacity: int,
        refill: float,
        max_keys: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.capacity, self.refill, self.max_keys, self._clock = capacity, refill, max_keys, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # points and when they were counted

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, points: int) -> Balance:
        """See `Budget`."""
        now = self._clock()
        held, counted = self._buckets.get(key, (float(self.capacity), now))
        if now > counted:  # a clock that was set back must not take points away
            held += (now - counted) * self.refill
            if held > self.capacity:
                held = float(self.capacity)
        if points > held:
            return refused(points, held, now, self.capacity, self.refill)
        held -= points
        self._buckets[key] = held, now
        self._buckets.move_to_end(key)
        if len(self._buckets) > self.max_keys:
            self._buckets.popitem(last=False)
        return taken(held, now, self.capacity, self.refill)


def taken(held: float, now: float, capacity: int, refill: float) -> Balance:
    """The balance of a budget that holds so many points after the operation took its own."""
    missing = capacity - held
    if missing <= 0:
        return Balance(int(held), now)
    return Balance(int(held), now + missing / refill if refill > 0 else math.inf)


def refused(points: int, held: float, now: float, capacity: int, refill: float) -> Balance:
    """The balance of a budget that held too few points for an operation."""
    missing = max(points - held, SOON)
    seconds = missing / refill if points <= capacity and refill > 0 else math.inf
    return replace(taken(held, now, capacity, refill), retry_after=seconds)


def rate_limited(balance: Balance, points: int) -> RequestError:
    """The refusal (RATE_LIMITED, HTTP 429) of an operation whose points are not there."""
    message = f"The operation costs {points} points, more than your budget will ever hold again"
    seconds, headers = None, None
    if not math.isinf(balance.retry_after):
        seconds = max(1, math.ceil(balance.retry_after))
        headers = {"Retry-After": str(seconds)}
        message = f"The operation costs {points} points and {balance.remaining} are left; try again in {seconds} s"
    return RequestError(
        message,
        RATE_LIMITED,
        status=429,
        headers=headers,
        requested=points,
        remaining=balance.remaining,
        resetsAt=balance.resets,
        retryAfterSeconds=seconds,
    )
