"""What the tests of the API share."""

import pytest
from argon2 import PasswordHasher
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import passwords


@pytest.fixture
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same argon2id with parameters that take no time."""
    monkeypatch.setattr(passwords, "hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
async def no_attempts(engine: AsyncEngine) -> None:
    """Forget the failed sign-ins of other tests: all come from one address."""
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM sign_in_attempts"))
