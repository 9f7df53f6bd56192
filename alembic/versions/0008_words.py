"""Words, sort keys and folded texts are made by one rule in Python, and stored.

Revision: 0008, after 0007. Written and reviewed by hand.

Rows that the release before writes while both run get words as it would have made them, and no mark: the housekeeping
cuts them by the rule (`persistence.writes.cutting`). Its searches, in the same column, go on.
"""

import sqlalchemy as sa

from persistence import online
from persistence.models.derived import Derivation
from persistence.words import mark
from persistence.words.cutting import document
from persistence.words.folding import folded
from persistence.words.ordering import sort_key
from persistence.writes.cutting import Cutting

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

OLD_WORDS = "setweight(to_tsvector('simple', title), 'A') || setweight(to_tsvector('simple', description), 'D')"
C = 'text COLLATE "C"'
TASKS = Cutting(
    "tasks",
    {"title": C, "description": C},
    {
        "search": ("tsvector", Derivation(document, ("title", "description"))),
        "title_key": (C, Derivation(sort_key, ("title",))),
        "title_folded": (C, Derivation(folded, ("title",))),
        "description_folded": (C, Derivation(folded, ("description",))),
        "text_mark": ("bigint", Derivation(mark, ("title", "description"))),
    },
)
USERS = Cutting(
    "users",
    {"name": C, "email": C},
    {
        "name_key": (C, Derivation(sort_key, ("name",))),
        "name_folded": (C, Derivation(folded, ("name",))),
        "email_folded": (C, Derivation(folded, ("email",))),
        "text_mark": ("bigint", Derivation(mark, ("name", "email"))),
    },
)
# What something else makes of the texts that it writes, until they are cut.
ROUGHLY = {
    "tasks": f"NEW.search := (SELECT {OLD_WORDS} FROM (SELECT NEW.title, NEW.description) AS texts); "  # noqa: S608
    "NEW.title_key := lower(left(NEW.title, 200)); NEW.title_folded := NULL; NEW.description_folded := NULL;",
    "users": "NEW.name_key := lower(NEW.name); NEW.name_folded := NULL; NEW.email_folded := NULL;",
}


def upgrade() -> None:
    for cutting in (TASKS, USERS):
        for name, (kind, _) in cutting.columns.items():
            if name != "search":
                online.column(cutting.table, column(name, kind))
        for statement in triggers(cutting):
            online.execute(statement, cutting.table)
    online.execute("ALTER TABLE tasks ALTER COLUMN search DROP EXPRESSION IF EXISTS", "tasks")
    online.execute("ALTER TABLE tasks ALTER COLUMN search SET DEFAULT ''", "tasks")
    online.execute("DROP TRIGGER IF EXISTS tasks_search ON tasks", "tasks")
    for cutting in (TASKS, USERS):
        online.cut(cutting)
        online.index(f"ix_{cutting.table}_uncut", cutting.table, ["id"], where="text_mark IS NULL")
    online.index("ix_tasks_owner_id_title_key_id", "tasks", ["owner_id", "title_key", "id"])
    online.index("ix_users_name_key_id", "users", ["name_key", "id"])
    online.drop_index("ix_users_name_id")
    online.not_null("tasks", "search")
    for cutting in (TASKS, USERS):
        online.cut(cutting)


def downgrade() -> None:
    online.index("ix_users_name_id", "users", ["name", "id"])
    online.drop_not_null("tasks", "search")
    online.execute(
        "CREATE OR REPLACE TRIGGER tasks_search BEFORE INSERT OR UPDATE OF title, description ON tasks FOR EACH ROW "
        "EXECUTE FUNCTION tsvector_update_trigger(search, 'pg_catalog.simple', title, description)",
        "tasks",
    )
    for table in ("tasks", "users"):
        for event in ("insert", "update"):
            online.execute(f"DROP TRIGGER IF EXISTS {table}_cut_{event} ON {table}", table)
        online.execute(f"DROP FUNCTION IF EXISTS cut_{table}()")
    # Rows that somebody has locked keep the words they have, most of which are the same.
    free = "SELECT id FROM tasks WHERE {batch} FOR NO KEY UPDATE SKIP LOCKED"
    online.batches("tasks", f"UPDATE tasks SET search = {OLD_WORDS} WHERE id IN ({free})")  # noqa: S608  # ours
    for cutting in (TASKS, USERS):
        online.drop_index(f"ix_{cutting.table}_uncut")
    online.drop_index("ix_tasks_owner_id_title_key_id")
    online.drop_index("ix_users_name_key_id")
    online.execute("ALTER TABLE tasks ALTER COLUMN search DROP DEFAULT", "tasks")
    for cutting in (TASKS, USERS):
        for name in cutting.columns:
            if name != "search":
                online.drop_column(cutting.table, name)


def column(name: str, kind: str) -> "sa.Column[object]":
    if name == "text_mark":
        return sa.Column(name, sa.BigInteger())
    text = sa.Text(collation="C")
    return sa.Column(name, text, server_default="", nullable=False) if name.endswith("_key") else sa.Column(name, text)


def triggers(cutting: Cutting) -> list[str]:
    """What takes the mark from a row whose text something else has written: it does not know the mark of that text."""
    table, texts = cutting.table, list(cutting.sources)
    changed = " OR ".join(f"NEW.{name} <> OLD.{name}" for name in texts)
    return [
        f"CREATE OR REPLACE FUNCTION cut_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ "
        f"BEGIN {ROUGHLY[table]} NEW.text_mark := NULL; RETURN NEW; END $$",
        f"CREATE OR REPLACE TRIGGER {table}_cut_insert BEFORE INSERT ON {table} FOR EACH ROW "
        f"WHEN (NEW.text_mark IS NULL) EXECUTE FUNCTION cut_{table}()",
        f"CREATE OR REPLACE TRIGGER {table}_cut_update BEFORE UPDATE OF {', '.join(texts)} ON {table} FOR EACH ROW "
        f"WHEN (NEW.text_mark IS NOT DISTINCT FROM OLD.text_mark AND ({changed})) EXECUTE FUNCTION cut_{table}()",
    ]
