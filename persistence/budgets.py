"""Budgets of cost points that several processes share: a token bucket per key, in one row.

The database's clock counts, and one statement refills and takes, so that processes which spend at once never spend
more than there is.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Double,
    Integer,
    Table,
    bindparam,
    extract,
    func,
    literal_column,
    select,
)
from sqlalchemy import cast as converted
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from persistence.models import RateBudget
from persistence.rows.reading import Statement
from persistence.session import Session
from persistence.writes import batches

TABLE = cast("Table", RateBudget.__table__)


@dataclass(frozen=True)
class Held:
    """What a budget holds: the points that are left, when that was (seconds since 1970), and whether any were taken."""

    points: float
    at: float
    taken: bool


def hashed(key: str) -> bytes:
    """What is stored of whose budget it is."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()


def _seconds(moment: ColumnElement[Any]) -> ColumnElement[float]:
    return converted(extract("epoch", moment), Double)


NOW: ColumnElement[datetime] = func.now(type_=DateTime(timezone=True))
KEY, POINTS = bindparam("key", type_=TABLE.c.key_hash.type), bindparam("points", type_=Integer)
CAPACITY, REFILL = bindparam("capacity", type_=Double), bindparam("refill", type_=Double)

# Who waited for the row has an earlier `now()` than who held it: time does not go back, or it would be counted twice.
REFILLED = func.least(
    CAPACITY, TABLE.c.points + func.greatest(literal_column("0"), _seconds(NOW - TABLE.c.counted_at)) * REFILL
)
TAKEN = (
    insert(TABLE)
    .values(key_hash=KEY, points=CAPACITY - POINTS, counted_at=NOW)
    .on_conflict_do_update(
        index_elements=["key_hash"],
        set_={"points": REFILLED - POINTS, "counted_at": func.greatest(TABLE.c.counted_at, NOW)},
        where=REFILLED >= POINTS,
    )
    .returning(TABLE.c.points)
    .cte("taken")
)
TAKE: Statement[Any] = Statement(select(TAKEN.c.points, _seconds(NOW).label("at")))
LOOK: Statement[Any] = Statement(
    select(
        func.coalesce(select(REFILLED).where(TABLE.c.key_hash == KEY).scalar_subquery(), CAPACITY).label("points"),
        _seconds(NOW).label("at"),
    )
)


async def take(session: Session, key: str, points: int, *, capacity: int, refill: float) -> Held:
    """Take points out of a budget, or nothing when there are not as many. Taking 0 only looks.

    A budget holds at most `capacity` points and regains `refill` points a second.
    """
    values = {"key": hashed(key), "capacity": float(capacity), "refill": refill}
    if 0 < points <= capacity:
        # With a connection that broke it is asked again: at worst the points are taken twice.
        rows = await session.fetch(TAKE, values | {"points": points})
        if rows:
            return Held(rows[0].points, rows[0].at, True)
    [row] = await session.fetch(LOOK, values)
    return Held(row.points, row.at, False)


async def forget_full(session: AsyncSession, *, capacity: int, refill: float) -> bool:
    """Forget a batch of the budgets that are full again, and say whether there may be more.

    Full is what a budget is of which nothing is known.
    """
    gone = batches.some(RateBudget, REFILLED >= CAPACITY).returning(RateBudget.counted_at)
    return batches.is_full(len((await session.execute(gone, {"capacity": capacity, "refill": refill})).all()))
