"""Texts as they are stored: what goes, what is refused and in which words; and that the database says the same."""

import asyncio
import random
import sys
import unicodedata
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import asyncpg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import text as sql
from sqlalchemy.ext.asyncio import AsyncEngine

from persistence.models import Base, characters
from persistence.rules import text as texts
from persistence.rules import zones
from persistence.rules.errors import Invalid
from persistence.rules.validation import Checked
from tests.persistence.conftest import Raw

anyio = pytest.mark.anyio

FLAG = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
POINTS = [chr(point) for point in range(sys.maxunicode + 1)]
STORABLE = [point for point in POINTS if point != "\0" and not "\ud800" <= point <= "\udfff"]

anything = st.text(
    st.characters() | st.sampled_from("aB \u00e9e\u0301\u200b\u200d\u200c\u2066\u2069\u202e\ufe0f\u0628\u094d❤🏴💻\n\r")
)


# -- one line -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("Cafe\u0301", "Caf\u00e9"),
        ("\u1112\u1161\u11ab", "\ud55c"),
        ("\u200b\ufeff\u00a0 Milk \u3000\u2028\x85\u00ad", "Milk"),
        ("\x07\x1bMilk\x7f", "Milk"),
        ("\u200b", ""),
        ("\u2800", ""),
        ("\u3164\u115f\u1160\uffa0", ""),
        ("\U000e0041\U000e0042\U000e0001", ""),
        ("\ufe0f", ""),
        ("\u2067\u2069", ""),
        ("\u202a\u200b\u202c", ""),
        ("zero\u200bwidth", "zero\u200bwidth"),
        ("\ta\tb\t", "a\tb"),
        ("❤\ufe0f", "❤\ufe0f"),
        ("❤\ufe0f\ufe0f", "❤\ufe0f"),
        (FLAG, FLAG),
        (f"{FLAG}\u200b", FLAG),
        ("x\U000e0067", "x"),
        ("\u2067\u05e9\u05dc\u05d5\u05dd\u2069!", "\u2067\u05e9\u05dc\u05d5\u05dd\u2069!"),
        ("a \u202b\u05e9\u202c b", "a \u202b\u05e9\u202c b"),
        ("\u05d0\u200f! b", "\u05d0\u200f! b"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
    ],
)
def test_a_line_is_composed_and_has_nothing_invisible_at_its_ends(given: str, stored: str) -> None:
    assert texts.line(given) == stored


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("a\nb", "must have one line, and contains U+000A, a line break"),
        ("a\r\nb", "must have one line, and contains U+000D, a line break"),
        ("a\u2028b", "must have one line, and contains U+2028 LINE SEPARATOR, a line break"),
        ("a\x85b", "must have one line, and contains U+0085, a line break"),
        ("a\x1db", "must have one line, and contains U+001D, a line break"),
        ("a\x1bb", "contains U+001B, a control character"),
        ("a\0", "contains U+0000, a control character"),
        ("a\u202eb", "contains U+202E RIGHT-TO-LEFT OVERRIDE, a character that cannot be seen"),
        ("a\ud800b", "contains U+D800, half of a surrogate pair"),
        ("a\u2067b", "contains U+2067 RIGHT-TO-LEFT ISOLATE, which is not closed"),
        ("a\u2069b", "contains U+2069 POP DIRECTIONAL ISOLATE, which closes what was not opened"),
        ("a\u2067\u202ab\u2069\u202c", "contains U+2069 POP DIRECTIONAL ISOLATE, which closes what was not opened"),
        ("a" + "\u0301" * 31, "has more than 30 combining marks in a row"),
    ],
)
def test_what_a_line_may_not_have_is_named(given: str, said: str) -> None:
    with pytest.raises(texts.Wrong) as caught:
        texts.line(given)

    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("  - a\n  - b  \n", "  - a\n  - b  \n"),
        ("\ufeff    code\u200b\n\x07", "    code\n"),
        ("a\r\nb\rc\u2028d\x0be", "a\nb\nc\nd\ne"),
        ("a\tb", "a\tb"),
        ("e\u0301\n", "\u00e9\n"),
        (" \n\u200b\t", ""),
    ],
)
def test_a_text_of_lines_has_one_kind_of_line_break_and_keeps_its_white_space(given: str, stored: str) -> None:
    assert texts.lines(given) == stored


@pytest.mark.parametrize("form", [texts.line, texts.lines, texts.tag])
@given(text=anything)
@example(text=" \u0301")
@example(text="\u200b\u0301\ufe0f")
@example(text="\u0344\u200d")
def test_storing_what_was_stored_changes_nothing(form: Any, text: str) -> None:
    try:
        stored = form(text)
    except texts.Wrong:
        return

    assert form(stored) == stored
    assert unicodedata.is_normalized("NFC", stored)
    assert stored == "" or not set(stored) <= texts.BLANK


def test_the_short_ways_of_ascii_texts_are_no_others() -> None:
    for character in map(chr, range(0x20, 0x7F)):
        for text in (character, f" {character} ", f"a{character}B"):
            assert texts.line(text) == texts.trimmed(f"{text}\u200b") == texts.lines(f"\x07{text}").strip()
            assert texts.tag(text) == texts.tag(f"{text}\u200b")


def test_marks_without_end_take_no_time() -> None:
    marks = "a" + "\u0301\u0316" * 200_000

    assert texts.composed(marks) == marks
    for form in (texts.line, texts.lines):
        with pytest.raises(texts.Wrong):
            form(marks)


# -- tags ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (" Home ", "home"),
        ("Straße", "strasse"),
        ("STRASSE", "strasse"),
        ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
        ("Cafe\u0301", "caf\u00e9"),
        ("\uff35\uff32\uff27\uff25\uff2e\uff34", "urgent"),
        ("\ufb01x", "fix"),
        ("ur\u200bg\u00ade\u2060nt", "urgent"),
        ("a\u200db", "ab"),
        ("a\u00a0\t\u3000b", "a   b"),
        ("\u210b\u2160", "hi"),
        ("\ua7cb", texts.fold("\ua7cb")),
        ("❤\ufe0f", "❤"),
        ("👩\u200d💻", "👩\u200d💻"),
        (FLAG, FLAG),
        ("x\U000e0067y", "xy"),
        ("ශ්\u200dරී", "ශ්\u200dරී"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
    ],
)
def test_of_tags_that_look_alike_there_is_one(given: str, stored: str) -> None:
    assert texts.tag(given) == stored


def test_tags_are_counted_when_those_that_look_alike_are_one() -> None:
    checked = Checked()

    tags = checked.tags([f"t{n}" for n in range(20)] + [f"T\u200b{n}" for n in range(20)])
    checked.tag_count(tags)
    checked.done()

    assert tags == [f"t{n}" for n in range(20)]


@pytest.mark.parametrize(
    ("tag", "code", "said"),
    [
        ("\u200b", "TOO_SHORT", "A tag must not be empty."),
        ("\u2800", "TOO_SHORT", "A tag must not be empty."),
        ("a\nb", "INVALID_CHARACTER", "A tag must have one line, and contains U+000A, a line break."),
        (
            "a\u202eb",
            "INVALID_CHARACTER",
            "A tag contains U+202E RIGHT-TO-LEFT OVERRIDE, a character that cannot be seen.",
        ),
        ("a\ud800", "INVALID_CHARACTER", "A tag contains U+D800, half of a surrogate pair."),
        ("\ufdfa" * 3, "TOO_LONG", "A tag has 54 characters; at most 50 are allowed."),
        ("x" * 100_000, "TOO_LONG", "A tag has 100,000 characters; at most 50 are allowed."),
    ],
)
def test_what_is_wrong_with_a_tag_is_said_with_its_place(tag: str, code: str, said: str) -> None:
    checked = Checked()
    checked.tags(["fine", tag])
    with pytest.raises(Invalid) as caught:
        checked.done()

    (problem,) = caught.value.problems
    assert (problem.code, problem.message, problem.path) == (code, said, ("tags", 1))


# -- the table ----------------------------------------------------------------------------------------


def test_the_table_has_all_that_unicode_calls_a_control_a_space_or_a_format_but_what_is_seen() -> None:
    seen = set(map(chr, [*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD]))
    unseen = {point for point in POINTS[1:] if unicodedata.category(point) in ("Cc", "Cf", "Zs", "Zl", "Zp")} - seen

    assert unseen <= texts.BLANK
    assert {point for point in POINTS[1:] if len(f"a{point}b".splitlines()) > 1} == texts.BREAKS


def all_points() -> Iterator[str]:
    """All code points, each a text; those that Unicode has given to nobody forty at a time, because they are most."""
    nobodys = [point for point in STORABLE if unicodedata.category(point) in ("Cn", "Co") and point not in texts.BLANK]
    yield from sorted(set(STORABLE) - set(nobodys))
    yield from ("".join(nobodys[n : n + 40]) for n in range(0, len(nobodys), 40))


def keeps(form: Any, text: str) -> bool:
    """Whether a text is stored as it is."""
    try:
        return bool(text) and form(text) == text
    except texts.Wrong:
        return False


class InDatabase:
    """What the database says of all code points, each asked at each place of a text."""

    def __init__(self, first: set[str], inner: set[str], last: set[str]) -> None:
        self.first, self.inner, self.last = first, inner, last

    def takes(self, text: str) -> bool:
        return text[0] not in self.first and (
            len(text) == 1 or (text[-1] not in self.last and self.inner.isdisjoint(text[1:-1]))
        )

    @classmethod
    async def asked(cls, url: str, rule: str) -> "InDatabase":
        connection = await asyncpg.connect(url)
        refused = [
            await connection.fetch(
                f"SELECT chr(n) FROM generate_series(1, {sys.maxunicode}) AS n "
                f"WHERE n NOT BETWEEN {0xD800} AND {0xDFFF} AND NOT {rule.replace('value', at)}"
            )
            for at in ("chr(n)", "('x' || chr(n) || 'x')", "('x' || chr(n))")
        ]
        await connection.close()
        return cls(*({row[0] for row in rows} for rows in refused))


@pytest.fixture(params=["embedded", "15 of another locale"])
async def database(request: pytest.FixtureRequest) -> str:
    """The URL of a database: what a rule says depends neither on its version nor on its locale."""
    if request.param == "embedded":
        make: Callable[[], str] = request.getfixturevalue("new_database")
        return await asyncio.to_thread(make)
    url: str = request.getfixturevalue("postgres15").url
    connection = await asyncpg.connect(url)
    await connection.execute("DROP DATABASE IF EXISTS other_locale")
    turkish = "LOCALE 'C.UTF-8' LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'"
    await connection.execute(f"CREATE DATABASE other_locale TEMPLATE template0 {turkish}")
    await connection.close()
    return url.replace("/postgres?", "/other_locale?")


@anyio
async def test_the_database_takes_every_line_that_is_stored_whatever_the_code_point(database: str) -> None:
    """It knows of no composition, no pairs of directions, and not what a form or a flag stands behind."""
    asked = await InDatabase.asked(database, characters.one_line("value"))
    beyond = texts.members(characters.union(characters.DIRECTIONS, characters.SELECTORS, characters.TAGS))

    for point in all_points():
        for text in (point, f"x{point}", f"x{point}x"):
            kept = keeps(texts.line, text)
            if asked.takes(text) != kept:
                assert not kept, f"the database refuses {text!r}"
                assert point in beyond or not unicodedata.is_normalized("NFC", text), f"the database takes {text!r}"


@anyio
async def test_the_database_takes_every_tag_that_is_stored_whatever_the_code_point(database: str) -> None:
    """It knows of no letters but A to Z, no composition, and not where joiners and flags are seen."""
    asked = await InDatabase.asked(database, characters.one_tag("value"))
    unseen = texts.members(characters.union(characters.BLANK, but=(characters.JOINERS, characters.TAGS)))

    for point in all_points():
        for text in (point, f"x{point}x"):
            tag = texts.fold(text)
            assert tag == text or not keeps(texts.tag, text)
            assert not keeps(texts.tag, tag) or asked.takes(tag), f"the database refuses {tag!r}"
            if point in unseen and text != "x x":
                assert not asked.takes(text), f"the database takes {text!r}"


async def taken(engine: AsyncEngine, rule: str, values: list[str]) -> list[bool]:
    async with engine.connect() as connection:
        found = await connection.execute(
            sql(f"SELECT {rule} FROM unnest(CAST(:values AS text[])) WITH ORDINALITY AS t (value, n) ORDER BY n"),
            {"values": values},
        )
        return [row[0] for row in found]


@anyio
async def test_the_database_takes_whatever_python_stores(engine: AsyncEngine) -> None:
    random_ = random.Random(1)
    letters = "aB \u00e9e\u0301\u0345\u200b\u200d\u200c\u2066\u2069\u202e\ufe0f\u0628\u094d\u2764"
    letters += "\U0001f3f4\U000e0067\U000e007f\n\0"
    given = ["".join(random_.choices(letters, k=random_.randint(1, 6))) for _ in range(20_000)]

    lines = {line for text in given if keeps(texts.line, line := attempt(texts.line, text))}
    tags = {tag for text in given if keeps(texts.tag, tag := attempt(texts.tag, text))}

    assert len(lines) > 1_000
    assert len(tags) > 1_000
    assert all(await taken(engine, characters.one_line("value"), sorted(lines)))
    assert all(await taken(engine, "tags_are_valid(ARRAY[value]::varchar[])", sorted(tags)))


def attempt(form: Any, text: str) -> str:
    try:
        return str(form(text))
    except texts.Wrong:
        return ""


@anyio
async def test_the_checks_are_those_of_the_models(raw: Raw) -> None:
    """A table of characters that was changed needs a migration."""
    rows = await raw("SELECT conname AS name, pg_get_constraintdef(oid) AS rule FROM pg_constraint WHERE contype = 'c'")
    found = {row.name: row.rule for row in rows}
    for table, column in (("users", "name"), ("tokens", "name"), ("tasks", "title")):
        assert characters.one_line(column).partition("'")[2] in found[f"ck_{table}_{column}_length"]
    assert len(Base.metadata.tables) > 3
    (function,) = await raw("SELECT prosrc FROM pg_proc WHERE proname = 'tags_are_valid'")
    assert characters.one_tag("tag").partition("'")[2] in function.prosrc


# -- zones --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Europe/Berlin", "Asia/Calcutta", "UTC", "Etc/GMT+5", "America/Argentina/Ushuaia"])
def test_zones_and_links_of_the_iana_list_are_time_zones(name: str) -> None:
    checked = Checked()

    assert checked.time_zone(name) == name
    assert checked.problems == []


@pytest.mark.parametrize(
    "name",
    ["", "localtime", "Factory", "posixrules", "posix/Europe/Berlin", "right/UTC", "europe/berlin", "UTC ", "+01"],
)
def test_what_only_a_system_lists_is_no_time_zone(name: str) -> None:
    checked = Checked()
    checked.time_zone(name)

    assert [(problem.code, problem.path) for problem in checked.problems] == [("INVALID_TIME_ZONE", ("timeZone",))]


@anyio
async def test_python_and_the_database_have_one_list_of_zones_and_data_for_all(engine: AsyncEngine) -> None:
    listed = set((resources.files("tzdata") / "zones").read_text().split())
    others = {"localtime", "Factory", "posixrules", "posix/UTC", "right/UTC", "utc", "europe/Berlin", "", " UTC"}
    names = sorted(listed | zones.NAMES | others)

    answers = await taken(engine, "is_time_zone(value)", names)

    assert {name for name, answer in zip(names, answers, strict=True) if answer} == zones.NAMES
    assert listed - {"Factory"} == zones.NAMES, "there is another release of the list: it needs a migration"
