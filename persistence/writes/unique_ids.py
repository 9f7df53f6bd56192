"""Ids are unique over all entities: triggers enter each into one table (`persistence.models.entities`).

What Alembic compares with the models is compared here for the triggers: `alembic check` names a table of entities
without them, and `alembic revision --autogenerate` writes them into the migration that makes the table.
"""

from typing import Any

from alembic.autogenerate import comparators
from alembic.operations.ops import ExecuteSQLOp, UpgradeOps
from sqlalchemy import text

from persistence.models.base import entities

# Once for a statement and not for a row: PostgreSQL takes 1 percent more CPU for a task that is one of sixteen, not 3.
INSERTED, UPDATED = "registers_ids", "registers_changed_id"
EVENTS = {
    INSERTED: "AFTER INSERT ON {} REFERENCING NEW TABLE AS created FOR EACH STATEMENT",
    UPDATED: "AFTER UPDATE OF id ON {} FOR EACH ROW WHEN (NEW.id <> OLD.id)",
}
THERE = """
SELECT tgrelid::regclass::text, tgname, convert_from(trim(trailing '\\x00' FROM tgargs), 'UTF8') FROM pg_trigger
WHERE tgfoid = to_regproc('register_ids') AND tgenabled IN ('O', 'A')
"""


def trigger(name: str, table: str, entity: str) -> str:
    """The SQL of one of the triggers."""
    return f"CREATE OR REPLACE TRIGGER {name} {EVENTS[name].format(table)} EXECUTE FUNCTION register_ids('{entity}')"


class MissingTrigger(ExecuteSQLOp):
    """What makes a trigger, and takes it away again."""

    def __init__(self, name: str, table: str, entity: str) -> None:
        super().__init__(trigger(name, table, entity))
        self.name, self.table = name, table

    def reverse(self) -> ExecuteSQLOp:
        return ExecuteSQLOp(f"DROP TRIGGER {self.name} ON {self.table}")


@comparators.dispatch_for("schema")
def compare(context: Any, operations: UpgradeOps, schemas: Any) -> None:
    """Add what makes the triggers that are missing."""
    there = {tuple(row) for row in context.connection.execute(text(THERE))}
    for entity, model in entities().items():
        for name in EVENTS:
            if (model.__tablename__, name, entity) not in there:
                operations.ops.append(MissingTrigger(name, model.__tablename__, entity))
