"""Demo data: two accounts with known passwords, and tasks that show what the store can do. Idempotent."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence import access, tasks, tokens, users
from persistence.models import Role, Scope, TaskPriority, TaskStatus, Token, TokenKind, User
from persistence.passwords import hashed
from persistence.rules.errors import Conflict
from persistence.session import Session
from persistence.viewer import Viewer

PASSWORD = "taskstore-demo"  # noqa: S105  # public on purpose; `./run` refuses it outside of the demo
TOKEN_LIFE = timedelta(days=30)
"""A server that runs for longer has to be started again for new ones."""
TOKENS_KEPT = 5
TOKEN_NAME = "GraphiQL (demo)"  # noqa: S105  # a name


@dataclass(frozen=True)
class Account:
    """A demo account. `token` is a ready secret, made at each start; `repr` does not show it."""

    email: str
    name: str
    role: Role
    password: str = field(repr=False, default=PASSWORD)
    token: str = field(repr=False, default="")


@dataclass(frozen=True)
class DemoData:
    accounts: list[Account]


ACCOUNTS = (
    ("test@example.com", "Tess Test", Role.MEMBER, "Europe/Berlin"),
    ("admin@example.com", "Ada Admin", Role.ADMIN, "UTC"),
)

DemoTask = tuple[str, TaskStatus, TaskPriority, tuple[str, ...], float | None]
"""Title, status, priority, tags, days until due (None: never)."""

TASKS: tuple[DemoTask, ...] = (
    ("Renew the passport", TaskStatus.TODO, TaskPriority.URGENT, ("errand", "travel"), -3),
    ("Write the quarterly report", TaskStatus.IN_PROGRESS, TaskPriority.HIGH, ("work", "writing"), 2),
    ("Book the train to Lisbon", TaskStatus.TODO, TaskPriority.MEDIUM, ("travel",), 9),
    ("Water the plants", TaskStatus.DONE, TaskPriority.LOW, ("home",), -1),
    ("Call the landlord about the heating", TaskStatus.TODO, TaskPriority.HIGH, ("home", "phone"), -0.5),
    ("Read the report on road safety", TaskStatus.TODO, TaskPriority.LOW, ("reading",), None),
    ("Plan the surprise party", TaskStatus.CANCELLED, TaskPriority.MEDIUM, ("friends",), 20),
    ("Back up the photos", TaskStatus.TODO, TaskPriority.MEDIUM, ("home", "computer"), 30),
)
# Somebody else's, so that whoever changes sides sees at once that these are other eyes.
ADMIN_TASKS: tuple[DemoTask, ...] = (
    ("Renew the certificate of the mail server", TaskStatus.TODO, TaskPriority.URGENT, ("operations",), -1),
    ("Try to restore last night's backup", TaskStatus.IN_PROGRESS, TaskPriority.HIGH, ("operations", "backup"), 1),
    ("Make accounts for the new colleagues", TaskStatus.TODO, TaskPriority.MEDIUM, ("people",), 4),
    ("Order a second disk", TaskStatus.DONE, TaskPriority.LOW, ("hardware",), -6),
)


async def seed(engine: AsyncEngine) -> DemoData:
    """Make the demo accounts and their tasks where they are missing, and a fresh token for each account."""
    return DemoData([await seed_account(engine, *account) for account in ACCOUNTS])


async def seed_account(engine: AsyncEngine, email: str, name: str, role: Role, time_zone: str) -> Account:
    session, secret = Session(engine), tokens.new_secret()

    async def write(session: Session) -> None:
        # Looked up again, and locked: another process may be seeding too.
        user_id = await session.scalar(select(User.id).where(User.email == email).with_for_update())
        if user_id is None:
            assert password_hash is not None
            user = await users.create(
                session,
                email=email,
                name=name,
                time_zone=time_zone,
                role=role,
                password_hash=password_hash,
            )
            user_id = user.id
            await add_tasks(session, user_id, ADMIN_TASKS if role is Role.ADMIN else TASKS)
        await refresh_token(session, user_id, role, secret)

    try:
        # Hashing is slow on purpose; it happens outside the transaction, and only once.
        known = await users.credentials(session, email)
        password_hash = None if known else await asyncio.to_thread(hashed, PASSWORD)
        try:
            await session.transact(write)
        except Conflict:  # another process has just made the account
            await session.transact(write)
    finally:
        await session.close()
    return Account(email, name, role, token=secret)


async def add_tasks(session: Session, user_id: UUID, which: Sequence[DemoTask]) -> None:
    viewer = Viewer(user_id, Role.MEMBER, frozenset(Scope), user_id)
    today = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    for title, status, priority, tags, days in which:
        due_at = None if days is None else today + timedelta(days=days)
        await tasks.create(session, viewer, title=title, status=status, priority=priority, tags=tags, due_at=due_at)


async def refresh_token(session: Session, user_id: UUID, role: Role, secret: str) -> None:
    """A token for GraphiQL. Those of the last starts stay good: a server that runs may have given them out."""
    made = select(Token).where(Token.user_id == user_id, Token.name == TOKEN_NAME)
    for token in await session.scalars(made.order_by(Token.created_at.desc()).offset(TOKENS_KEPT - 1)):
        await session.delete(token)
    await tokens.issue(
        session,
        user_id,
        kind=TokenKind.PERSONAL,
        name=TOKEN_NAME,
        scopes=access.scopes_of(role),
        secret=secret,
        expires_at=datetime.now(UTC) + TOKEN_LIFE,
    )
