"""Changes of tables that people are working on: the words that migrations are written in.

    from persistence import online

    def upgrade() -> None:
        online.column("tasks", sa.Column("project_id", sa.Uuid()))
        online.foreign_key("tasks", ["project_id"], "projects", ondelete="SET NULL")
        online.index("ix_tasks_project_id", "tasks", ["project_id"])
        online.batches("tasks", "UPDATE tasks SET rank = 0 WHERE {batch} AND rank IS NULL")
        online.not_null("tasks", "rank")

    def downgrade() -> None:
        online.drop_constraint("tasks", "fk_tasks_project_id_projects")
        online.drop_index("ix_tasks_project_id")
        online.drop_column("tasks", "project_id")

Each call is one or a few transactions of its own, on one table, and what came before it is committed first. A call that
was interrupted anywhere may be made again, and finds what it has done: so may the migration as a whole. What makes new
tables may still use `op` (in a migration that uses both, with `if_not_exists=True`); what touches a table that is in
use may not.

A statement that keeps others out first waits for autovacuum, schema changes and the like behind a lock that no reader
or writer minds; then it waits for readers and writers at most `LOCK_TIMEOUT`, in which others queue behind it, and if
that was not enough, lets them pass and tries again, for `PATIENCE` seconds. Whatever reads all rows of a table does so
with a lock that keeps nobody out: constraints are added NOT VALID and then validated, indexes are made CONCURRENTLY.
PostgreSQL documentation, "Explicit Locking" (13.3) and "ALTER TABLE", notes on NOT VALID.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import CreateColumn

from persistence.connections.failures import sqlstate
from persistence.writes.cutting import UNCUT, Cutting

LOCK_TIMEOUT = 500
"""Milliseconds that others may have to wait behind a statement that waits for a lock."""

PATIENCE = 60.0
"""Seconds in which a statement is tried again, or that one that keeps nobody out waits for a lock."""

BUSY = frozenset({"55P03", "40P01"})  # lock_not_available, deadlock_detected
"""What another try may mend."""


def execute(statement: str, table: str | None = None) -> None:
    """One statement of SQL in a transaction of its own; it must be one that may be repeated.

    Name the table that it locks, unless it locks none. It may not read all of its rows. A function that is in use may
    be replaced only in the same language: who calls it meanwhile would take the old body for one in the new language.
    """
    locks = (
        ()
        if table is None
        else (
            f"SET LOCAL lock_timeout = '{PATIENCE:.0f}s'",
            # Autovacuum gives way to who waits for a second, which no lock of half a second ever does.
            f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE",
            f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}",
        )
    )
    with committed():
        patiently(lambda: run("BEGIN", *locks, statement, "COMMIT"))


def column(table: str, column: "sa.Column[Any]") -> None:
    """Add a column: one that may be null, or with a constant default, or else the whole table would be rewritten."""
    added = CreateColumn(column).compile(dialect=op.get_context().dialect)
    execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {added}", table)


def drop_column(table: str, name: str) -> None:
    """Drop a column, which the release before must not read any more."""
    execute(f"ALTER TABLE {table} DROP COLUMN IF EXISTS {name}", table)


def check(table: str, name: str, rule: str) -> None:
    """Add the constraint `ck_<table>_<name>`, or replace it by another rule. All rows there are must keep it."""
    constraint(table, f"ck_{table}_{name}", f"CHECK ({rule})")


def checks(table: str, rules: Mapping[str, str], *, mend: Callable[[], None]) -> None:
    """Add or replace constraints `ck_<table>_<name>` that rows may break, which `mend` brings into order.

    It runs before they are there, so that nobody's edit of such a row is refused, and again for what came meanwhile.
    """
    mend()
    for name, rule in rules.items():
        add_constraint(table, f"ck_{table}_{name}", f"CHECK ({rule})")
    mend()
    for name in rules:
        validate(table, f"ck_{table}_{name}")


def foreign_key(
    table: str, columns: Sequence[str], referred: str, *, ondelete: str, to: Sequence[str] = ("id",)
) -> None:
    """Add the constraint `fk_<table>_<columns>_<referred>`, or replace it."""
    rule = f"FOREIGN KEY ({', '.join(columns)}) REFERENCES {referred} ({', '.join(to)}) ON DELETE {ondelete}"
    constraint(table, f"fk_{table}_{'_'.join(columns)}_{referred}", rule)


def constraint(table: str, name: str, rule: str) -> None:
    """Add a named constraint that can be NOT VALID at first, or replace it in one step."""
    add_constraint(table, name, rule)
    validate(table, name)


def add_constraint(table: str, name: str, rule: str) -> None:
    """Add or replace a constraint that holds for what is written from now on."""
    execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}, ADD CONSTRAINT {name} {rule} NOT VALID", table)


def validate(table: str, name: str) -> None:
    """Make sure that all rows keep a constraint."""
    execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}", table)


def drop_constraint(table: str, name: str) -> None:
    """Drop a constraint by its full name."""
    execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}", table)


def not_null(table: str, column: str) -> None:
    """Forbid null in a column in which no row has it any more, and none is written with it.

    A constraint that was validated shows that, so that SET NOT NULL need not read the table ("ALTER TABLE", SET NOT
    NULL).
    """
    check(table, f"{column}_present", f"{column} IS NOT NULL")
    execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET NOT NULL", table)
    drop_constraint(table, f"ck_{table}_{column}_present")


def drop_not_null(table: str, column: str) -> None:
    """Allow null in a column."""
    execute(f"ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL", table)


def index(
    name: str,
    table: str,
    columns: Sequence[str],
    *,
    unique: bool = False,
    using: str = "btree",
    where: str | None = None,
    include: Sequence[str] = (),
) -> None:
    """Make an index (of columns or expressions in parentheses) beside all work; one of that name that is valid stays.

    What an interrupted try left behind is not valid, and is made again. It waits for all transactions that are open.
    """
    statement = (
        f"CREATE {'UNIQUE ' if unique else ''}INDEX CONCURRENTLY IF NOT EXISTS {name} "
        f"ON {table} USING {using} ({', '.join(columns)})"
        + (f" INCLUDE ({', '.join(include)})" if include else "")
        + (f" WHERE {where}" if where else "")
    )

    def attempt() -> None:
        if ask("SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)", name=name):
            run(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        run(statement)

    with committed():
        patiently(attempt)


def unique(table: str, columns: Sequence[str]) -> None:
    """Add the constraint `uq_<table>_<columns>`, by an index that is made beside all work."""
    name = f"uq_{table}_{'_'.join(columns)}"
    if ask(
        "SELECT true FROM pg_constraint WHERE conrelid = to_regclass(:table) AND conname = :name",
        table=table,
        name=name,
    ):
        return
    index(name, table, columns, unique=True)
    execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} UNIQUE USING INDEX {name}", table)


def drop_index(name: str) -> None:
    """Drop an index beside all work."""
    with committed():
        patiently(lambda: run(f"DROP INDEX CONCURRENTLY IF EXISTS {name}"))


def drop_table(name: str) -> None:
    """Drop a table, when it is there."""
    if is_offline() or ask("SELECT to_regclass(:name) IS NOT NULL", name=name):
        execute(f"DROP TABLE IF EXISTS {name}", name)


def batches(table: str, statement: str, *, key: Sequence[str] = ("id",), size: int = 1000) -> None:
    """Run a statement for all rows of a table, `size` at a time by its primary key, each time in a transaction.

    `{batch}` in it becomes the condition for the rows whose turn it is. It must be one that may be repeated, and that
    skips what is done. Rows written meanwhile may be missed: first give the column a default, or the table a trigger.
    """
    columns = ", ".join(f"{table}.{name}" for name in key)
    if is_offline():
        with committed():
            run(batches_in_sql(table, statement, columns, key, size))
        return
    after, last = (f"({', '.join(f':{which}_{name}' for name in key)})" for which in ("after", "last"))
    bounds: dict[str, Any] = {}
    with committed():
        while True:
            since = f"({columns}) > {after}" if bounds else "true"
            next_end = f"ORDER BY {columns} OFFSET {size - 1} LIMIT 1"
            end = query(f"SELECT {columns} FROM {table} WHERE {since} {next_end}", bounds)  # noqa: S608  # our names
            upto = {f"last_{name}": value for name, value in zip(key, end or (), strict=False)}
            part = f"{since} AND ({columns}) <= {last}" if end else since

            def attempt(part: str = part, bounds: dict[str, Any] = bounds | upto) -> None:
                run("BEGIN", f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}")
                op.get_bind().execute(bound(literal(statement).replace("{batch}", f"({part})"), bounds))
                run("COMMIT")

            patiently(attempt)
            if end is None:
                return
            bounds = {f"after_{name}": value for name, value in zip(key, end, strict=True)}


def rows(
    table: str, columns: Sequence[str], where: str = "true", *, key: str = "id", size: int = 1000
) -> "Iterator[sa.Row[Any]]":
    """The rows of a table, `size` at a time by its primary key, for changes that only Python can make; offline none.

    Nothing is locked: a change has to look whether the row is still the one that was read (`change`).
    """
    last: dict[str, Any] = {}
    while not is_offline():
        since = f"{key} > :last AND " if last else ""
        statement = f"SELECT {', '.join(columns)} FROM {table} WHERE {since}({where}) ORDER BY {key} LIMIT {size}"  # noqa: S608  # our names
        with committed():
            found = op.get_bind().execute(bound(literal(statement).replace("\\:last", ":last"), last)).all()
        yield from found
        if len(found) < size:
            return
        last = {"last": getattr(found[-1], key)}


def change(statement: str, **values: Any) -> None:
    """One statement with values (`:name`) in a transaction of its own, which waits for nobody for long."""

    def attempt() -> None:
        run("BEGIN", f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}")
        op.get_bind().execute(bound(statement, values))
        run("COMMIT")

    with committed():
        patiently(attempt)


def cut(cutting: Cutting) -> None:
    """Make the derived columns of all rows that have no mark, a batch at a time, each in a transaction.

    Rows written meanwhile may be missed, and those whose text was changed. The housekeeping finds them by their mark,
    and all rows after SQL that people ran by hand.
    """
    after: dict[str, Any] = {}
    while not is_offline():
        with committed():
            found = op.get_bind().execute(bound(cutting.found(UNCUT, bool(after)), after)).all()
        if not found:
            return
        change(cutting.written, rows=cutting.rows(found))
        after = {"after": found[-1][0]}


def batches_in_sql(table: str, statement: str, columns: str, key: Sequence[str], size: int) -> str:
    """The same for people who run the SQL by hand."""
    after, last = (", ".join(f"{which}_{name}" for name in key) for which in ("after", "last"))
    since, until = (
        f"(after_{key[0]} IS NULL OR ({columns}) > ({after}))",
        f"(last_{key[0]} IS NULL OR ({columns}) <= ({last}))",
    )
    variables = " ".join(f"{which}_{name} {table}.{name}%TYPE;" for which in ("after", "last") for name in key)
    return f"""
DO $batches$
DECLARE {variables}
BEGIN
    LOOP
        SET LOCAL plan_cache_mode = force_custom_plan;
        SELECT {columns} INTO {last} FROM {table} WHERE {since} ORDER BY {columns} OFFSET {size - 1} LIMIT 1;
        {statement.replace("{batch}", f"({since} AND {until})")};
        COMMIT;
        EXIT WHEN last_{key[0]} IS NULL;
        {" ".join(f"after_{name} := last_{name};" for name in key)}
    END LOOP;
END
$batches$"""  # noqa: S608  # our names


# How


def is_offline() -> bool:
    """Whether SQL is printed instead of run: then nothing can be asked, and nothing has been interrupted."""
    return op.get_context().as_sql


@contextmanager
def committed() -> Iterator[None]:
    """Outside of Alembic's transaction, after what was done in it so far."""
    with op.get_context().autocommit_block():
        yield


def patiently(attempt: Callable[[], None]) -> None:
    """Try something until nobody is in the way. Raises what the last try raised."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return attempt()
        except BaseException as error:  # an interruption too
            if not is_offline() and not getattr(error, "connection_invalidated", False):
                op.get_bind().exec_driver_sql("ROLLBACK")
            if sqlstate(error) not in BUSY or time.monotonic() > until:
                raise
        # Those who queued behind it have their turn.
        time.sleep(random.uniform(0.1, 1) * LOCK_TIMEOUT / 1000)  # noqa: S311  # no secret


def run(*statements: str) -> None:
    for statement in statements:
        if is_offline():
            op.get_context().impl.static_output(f"{statement.strip()};")
        else:
            op.execute(sa.text(literal(statement)))


def ask(question: str, **values: Any) -> bool:
    """Whether the first value of an answer is true; offline it never is."""
    row = None if is_offline() else query(question, values)
    return row is not None and bool(row[0])


def query(statement: str, values: Mapping[str, Any]) -> "sa.Row[Any] | None":
    return op.get_bind().execute(bound(statement, values)).first()


def bound(statement: str, values: Mapping[str, Any]) -> sa.TextClause:
    """With values whose types PostgreSQL finds by itself."""
    return sa.text(statement).bindparams(*(sa.bindparam(k, v, type_=sa.types.NullType()) for k, v in values.items()))


def literal(statement: str) -> str:
    """SQL in which a colon is a colon, and no parameter."""
    return statement.replace(":", "\\:")
