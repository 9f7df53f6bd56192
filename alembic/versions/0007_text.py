"""Texts are composed and have no invisible ends, tags that look alike are one, zones are those of a list.

Revision: 0007, after 0006. Written and reviewed by hand.

What breaks the new rules is brought into their form, where people see the same text before and after; each such change
is a version of its row and is in the log, by nobody. Rows that the release before writes meanwhile are looked at again
before a rule is validated; from then on it is told what it has always told about a rule of the database. The SQL for
people who migrate by hand has the rules and no such changes: VALIDATE names the rule that rows break.

An address that the rules for addresses do not allow stays, and so does one whose new form somebody else has: the
account works as before. The log of the migration has the ids.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from persistence import online
from persistence.models.tasks import TAG_MAX, TITLE_MAX
from persistence.models.users import NAME_MAX
from persistence.rules import addresses, zones
from persistence.rules import text as texts

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

logger = logging.getLogger("taskstore.migrations")

# `characters.one_line` and `one_tag` at the time: a migration does not change.
ONE_LINE = (
    r"'^[^\u0001-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f-\u1160\u1680\u17b4-\u17b5\u180b-\u180f\u2000-\u200f"
    r"\u2028-\u2029\u202d-\u202f\u205f-\u2065\u206a-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    r"\U00013430-\U0001343f\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff]([^"
    r"\u0001-\u0008\u000a-\u001f\u007f-\u009f\u2028-\u2029\u202d-\u202e]*[^\u0001-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f-"
    r"\u1160\u1680\u17b4-\u17b5\u180e\u2000-\u200f\u2028-\u2029\u202d-\u202f\u205f-\u2065\u206a-\u206f\u2800\u3000"
    r"\u3164\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001343f\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-"
    r"\U0001d17a\U000e0000-\U000e001f\U000e0080-\U000e00ff\U000e01f0-\U000e0fff])?$'"
)
ONE_TAG = (
    r"'^[^\u0001-\u0020\u0041-\u005a\u007f-\u00a0\u00ad\u034f\u061c\u115f-\u1160\u1680\u17b4-\u17b5\u180b-\u180f"
    r"\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00013430-"
    r"\U0001343f\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff]([^\u0001-"
    r"\u001f\u0041-\u005a\u007f-\u00a0\u00ad\u034f\u061c\u115f-\u1160\u1680\u17b4-\u17b5\u180b-\u180f\u2000-\u200b"
    r"\u200e-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00013430-"
    r"\U0001343f\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e001f\U000e0080-"
    r"\U000e0fff]*[^\u0001-\u0020\u0041-\u005a\u007f-\u00a0\u00ad\u034f\u061c\u115f-\u1160\u1680\u17b4-\u17b5"
    r"\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    r"\U00013430-\U0001343f\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e007e"
    r"\U000e0080-\U000e0fff])?$'"
)
ADDRESS = r"^[^@\t-\r ]+@[^@\t-\r ]+$"
PLAIN = "^[!-~]([ -~]*[!-~])?$"
"""Texts that keep all the rules, and need not be looked at."""
EMPTY = "—"
"""Stands for a title or a name in which there is nothing to see."""


def upgrade() -> None:
    online.checks("tokens", {"name_length": f"name ~ {ONE_LINE}"}, mend=mend_tokens)

    names = ",".join(sorted(zones.NAMES))
    online.execute(
        "CREATE OR REPLACE FUNCTION is_time_zone(name varchar) RETURNS boolean "
        f"LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$ BEGIN RETURN name = ANY ('{{{names}}}'); END $$"
    )
    of_users = {
        "email_folded": "email !~ '[A-Z]'",
        "email_form": f"email ~ '{ADDRESS}'",
        "name_length": f"name ~ {ONE_LINE}",
        "time_zone_present": "is_time_zone(time_zone)",
    }
    online.checks("users", of_users, mend=mend_users)

    mend_tasks()
    tags_are_valid(
        f"""
        DECLARE
            tag varchar;
        BEGIN
            IF cardinality(tags) > 20 THEN
                RETURN false;
            END IF;
            FOREACH tag IN ARRAY tags LOOP
                IF tag IS NULL OR char_length(tag) > 50 OR tag !~ {ONE_TAG} THEN
                    RETURN false;
                END IF;
            END LOOP;
            RETURN length(array_to_tsvector(tags)) = cardinality(tags);
        END
        """
    )
    of_tasks = {"title_length": f"title ~ {ONE_LINE}", "tags": "tags_are_valid(tags)"}
    online.checks("tasks", of_tasks, mend=mend_tasks)
    report_addresses()


def downgrade() -> None:
    tags_are_valid(
        """
        DECLARE
            tag varchar;
        BEGIN
            IF cardinality(tags) > 20 THEN
                RETURN false;
            END IF;
            FOREACH tag IN ARRAY tags LOOP
                IF tag IS NULL OR char_length(tag) NOT BETWEEN 1 AND 50 OR tag <> btrim(tag) OR tag <> lower(tag) THEN
                    RETURN false;
                END IF;
            END LOOP;
            RETURN length(array_to_tsvector(tags)) = cardinality(tags);
        END
        """
    )
    online.check("tasks", "title_length", "title ~ '^[^ ](.*[^ ])?$'")
    online.check("users", "email_folded", "email = lower(email)")
    online.check("users", "email_form", "email ~ '^[^@[:space:]]+@[^@[:space:]]+$'")
    online.check("users", "time_zone_present", "char_length(time_zone) > 0")
    online.execute("DROP FUNCTION IF EXISTS is_time_zone(varchar)")
    for table in ("users", "tokens"):
        online.check(table, "name_length", "char_length(name) BETWEEN 1 AND 200 AND name = btrim(name)")


def tags_are_valid(body: str) -> None:
    online.execute(
        "CREATE OR REPLACE FUNCTION tags_are_valid(tags varchar[]) RETURNS boolean "
        f"LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $${body}$$"
    )


def mend_tokens() -> None:
    for row in online.rows("tokens", ("id", "name"), f"name !~ '{PLAIN}'"):
        change("tokens", "Token", "user_id", row, {"name": one_line(row.name, NAME_MAX)})


def mend_users() -> None:
    for row in online.rows("users", ("id", "version", "email", "name", "time_zone")):
        values = {"name": one_line(row.name, NAME_MAX), "time_zone": zone(row.time_zone)}
        change("users", "User", "id", row, values)
        if (email := canonical(row.email)) not in (None, row.email):
            # A step of its own: somebody else may have that address.
            free = "NOT EXISTS (SELECT FROM users AS other WHERE other.email = :email)"
            change("users", "User", "id", row, {"email": email}, free)


def mend_tasks() -> None:
    which = f"title !~ '{PLAIN}' OR description ~ '[^ -~\n]' OR array_to_string(tags, '') ~ '[^ -~]'"
    for row in online.rows("tasks", ("id", "version", "title", "description", "tags"), which):
        values = {
            "title": one_line(row.title, TITLE_MAX),
            "description": texts.composed(row.description),
            "tags": tags(row.tags),
        }
        if len(values["description"]) > 10_000:
            del values["description"]
        change("tasks", "Task", "owner_id", row, values)


def report_addresses() -> None:
    kept = [str(row.id) for row in online.rows("users", ("id", "email")) if canonical(row.email) != row.email]
    if kept:
        logger.warning(
            "%d accounts keep an address that is not allowed for new ones, or whose present form another account has; "
            "they sign in with it as before: %s",
            len(kept),
            ", ".join(kept[:20]) + (", ..." if len(kept) > 20 else ""),
        )


def change(
    table: str, entity: str, owner: str, row: "sa.Row[Any]", values: Mapping[str, Any], where: str = "true"
) -> None:
    """Write the values that are others than those of a row, and log it, unless somebody has changed the row since."""
    was = row._mapping
    fields = {name: [was[name], value] for name, value in values.items() if value != was[name]}
    if not fields:
        return
    versioned = "version" in was
    sets = [f"{name} = :{name}" for name in fields] + ["updated_at = now()"] + ["version = version + 1"] * versioned
    same = " AND ".join(f"{name} = :was_{name}" for name in fields)
    online.change(
        f"""
        WITH changed AS (
            UPDATE {table} SET {", ".join(sets)} WHERE id = :id AND {same} AND {where}
            RETURNING {table}.*
        )
        INSERT INTO changes (id, entity, entity_id, owner_id, action, version, fields)
        SELECT gen_random_uuid(), '{entity}', id, {owner}, 'updated', {"version" if versioned else "NULL::integer"},
               CAST(:fields AS text)::jsonb
        FROM changed
        """,  # noqa: S608  # our names
        id=row.id,
        fields=json.dumps(fields),
        **{name: new for name, (_, new) in fields.items()},
        **{f"was_{name}": old for name, (old, _) in fields.items()},
    )


def one_line(text: str, at_most: int) -> str:
    """A text in the form of today: what breaks a line is a space, and what nobody sees is gone where it may not be."""
    spaced = re.sub(r"[\n-\r\x1c-\x1e\x85\u2028\u2029]+", " ", text)
    cut = texts.IN_NO_LINE.sub("", spaced)
    plain = texts.DIRECTIONS.sub("", cut)
    for form in (text, spaced, cut, plain):
        if 0 < len(found := attempt(texts.line, form) or "") <= at_most:
            return found
    return texts.trimmed(plain) or EMPTY


def tags(given: list[str]) -> list[str]:
    found = []
    for tag in given:
        spaced = re.sub(r"[\t-\r\x1c-\x1e\x85\u2028\u2029]+", " ", tag)
        folded = attempt(texts.tag, tag) or attempt(texts.tag, texts.IN_NO_LINE.sub("", spaced))
        if folded is None or len(folded) > TAG_MAX:  # one that has grown stays as long as it was
            folded = "".join(c for c in texts.NO_SPACE.sub(" ", spaced) if c == " " or c not in texts.BLANK).strip(" ")
        found.append(folded)
    return [tag for tag in dict.fromkeys(found) if tag]


def attempt(form: Callable[[str], str], text: str) -> str | None:
    try:
        return form(text)
    except texts.Wrong:
        return None


def canonical(email: str) -> str | None:
    return attempt(addresses.address, email)


def zone(name: str) -> str:
    """The zone that was meant: systems list theirs in folders as well, and one that is none was UTC to the server."""
    name = name.removeprefix("posix/").removeprefix("right/")
    return name if name in zones.NAMES else "UTC"
