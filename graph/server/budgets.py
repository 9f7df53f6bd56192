"""The budgets that several processes share, for the endpoint (`graph.transport.budget.Budget`)."""

from sqlalchemy.ext.asyncio import AsyncEngine

from graph.transport.budget import Balance, refused, taken
from persistence import budgets
from persistence.session import Session


class SharedBudget:
    """Budgets in the database: taking costs each operation one statement."""

    def __init__(self, engine: AsyncEngine, *, capacity: int, refill: float) -> None:
        self.engine, self.capacity, self.refill = engine, capacity, refill

    async def take(self, key: str, points: int) -> Balance:
        """See `Budget`. Raises the driver's errors."""
        held = await budgets.take(Session(self.engine), key, points, capacity=self.capacity, refill=self.refill)
        if held.taken or points == 0:
            return taken(held.points, held.at, self.capacity, self.refill)
        return refused(points, held.points, held.at, self.capacity, self.refill)
