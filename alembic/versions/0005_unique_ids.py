"""Ids are unique over all entities: each is in one table, once and for ever.

Revision: 0005, after 0004. Written and reviewed by hand.

The triggers are there before it looks at the rows that there are, so that nothing slips through while people write.
"""

import sqlalchemy as sa
from alembic import op

from persistence import online
from persistence.writes import unique_ids

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ENTITIES = {"users": "User", "tokens": "Token", "tasks": "Task"}


def upgrade() -> None:
    op.create_table(
        "entities",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("entity", sa.String(20), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_entities"),
        if_not_exists=True,
    )
    op.execute(
        """
        CREATE OR REPLACE FUNCTION register_ids() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_LEVEL = 'STATEMENT' THEN
                INSERT INTO entities (id, entity) SELECT id, TG_ARGV[0] FROM created;
            ELSE
                INSERT INTO entities (id, entity) VALUES (NEW.id, TG_ARGV[0]);
            END IF;
            RETURN NULL;
        END
        $$
        """
    )
    for table, entity in ENTITIES.items():
        for name in unique_ids.EVENTS:
            online.execute(unique_ids.trigger(name, table, entity), table)
    for table, entity in ENTITIES.items():
        online.batches(
            table,
            f"INSERT INTO entities (id, entity) SELECT id, '{entity}' FROM {table} WHERE {{batch}}"  # noqa: S608  # ours
            " ON CONFLICT DO NOTHING",
        )
    # What was purged before.
    online.batches(
        "changes",
        "INSERT INTO entities (id, entity) SELECT entity_id, entity FROM changes WHERE {batch} AND action = 'purged'"
        " ON CONFLICT DO NOTHING",
    )
    for table, entity in ENTITIES.items():
        online.execute(none_taken_twice(table, entity))


def downgrade() -> None:
    for table in ENTITIES:
        for name in unique_ids.EVENTS:
            online.execute(f"DROP TRIGGER IF EXISTS {name} ON {table}", table)
    online.execute("DROP FUNCTION IF EXISTS register_ids()")
    online.drop_table("entities")


def none_taken_twice(table: str, entity: str) -> str:
    """Ends the migration with the ids of rows that something else has registered, which only a person can choose from.

    Users come first, because other rows refer to them.
    """
    return f"""
        DO $$
        DECLARE
            many bigint;
            examples text;
        BEGIN
            SELECT count(*), string_agg(other.entity || ' ' || id, ', ') FILTER (WHERE place <= 5) INTO many, examples
            FROM (SELECT id, entities.entity, row_number() OVER (ORDER BY id) AS place
                  FROM {table} JOIN entities USING (id) WHERE entities.entity <> '{entity}') AS other;
            IF many > 0 THEN
                RAISE unique_violation USING MESSAGE = many || ' rows of {table} have the id of something else ('
                    || examples || '); give them new ones with UPDATE {table} SET id = gen_random_uuid() FROM entities '
                    'WHERE entities.id = {table}.id AND entities.entity <> ''{entity}''';
            END IF;
        END
        $$
    """  # noqa: S608  # our names
