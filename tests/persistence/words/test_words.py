"""The one rule for words: folding, cutting, searching and ordering, in Python alone."""
# ruff: noqa: RUF001  # letters that look like others are what it is about

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.words import RULE, mark
from persistence.words.cutting import LONGEST, cut, document
from persistence.words.folding import fold, folded
from persistence.words.ordering import sort_key
from persistence.words.searching import tsquery

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)

# -- folding ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Größe", "GROSSE"),
        ("café", "cafe\u0301"),
        ("CAFÉ", "cafe"),
        ("Łódź", "lodz"),
        ("Ærøskøbing", "aeroskobing"),
        ("İstanbul", "istanbul"),
        ("ISPARTA", "\u0131sparta"),
        ("ＡＢＣ１２３", "abc123"),
        ("ｶﾞｷﾞ", "ガギ"),
        ("ﬁle №", "file no"),
        ("co\u00adopera\u200btion", "cooperation"),
        ("ΟΔΟΣ", "οδος"),
        ("άλφα", "αλφα"),
        ("Ёлка", "елка"),
        ("مُحَمَّدٌ", "محمد"),
        ("שָׁלוֹם", "שלום"),
        ('צַהַ"ל', "צה\u05f4ל"),
        ("کتابی", "كتابي"),
        ("مدرسة على", "مدرسه علی"),
        ("٣٤ ४५", "34 45"),
        ("가나", unicodedata.normalize("NFD", "가나")),
        ("👍🏽", "👍"),
        ("❤\ufe0f", "❤"),
    ],
)
def test_what_differs_in_case_accents_width_or_what_nobody_sees_is_the_same(text: str, same: str) -> None:
    assert fold(text) == fold(same)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("か", "が"),
        ("क", "कि"),
        ("ก", "กี"),
        ("👩", "👨"),
        ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "🏴"),
        ("a b", "ab"),
    ],
)
def test_what_is_another_letter_stays_another(text: str, other: str) -> None:
    assert fold(text) != fold(other)


def test_folding_any_character_twice_changes_nothing() -> None:
    every = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]

    assert [letter for letter in every if fold(fold(letter)) != fold(letter)] == []


@given(TEXTS)
def test_folding_any_text_twice_or_in_any_normal_form_is_the_same(text: str) -> None:
    once = fold(text)

    assert fold(once) == once
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text)) == once


@pytest.mark.parametrize("marks", ["\u0e48\u0e38", "\u093c\u094d", "\u3099\u302a"])
def test_more_marks_than_a_text_may_have_are_not_put_in_order(marks: str) -> None:
    text = "A" + marks * 100_000  # a minute, if they were
    assert fold(text) == "a" + marks * 100_000
    assert fold(fold(text)) == fold(text)


def test_only_a_text_that_is_not_ascii_is_kept_folded() -> None:
    assert folded("Plain Text") is None
    assert folded("Größe") == "grosse"


# -- cutting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("PROJ-123", "proj 123"),
        ("milk/bread, report.pdf", "milk bread report pdf"),
        ("snake_case camelCase", "snake case camelcase"),
        ("https://ada@example.org:8080/a-b?x=1#y", "https ada example org 8080 a b x 1 y"),
        ("Buy “oatmeal” «now» ‘please’", "buy oatmeal now please"),
        ("今月の売上", "今月 月の の売 売上 上"),
        ("iPhone用", "iphone 用"),
        ("สวัสดี", "สว วั ัส สด ดี ี"),
        ("서울에", "서울 울에 에"),
        ("नमस्ते दुनिया", "नमस्ते दुनिया"),
        ("🇩🇪🇫🇷 👩\u200d💻 👍🏽!", "🇩🇪 🇫🇷 👩 💻 👍"),
        ("10€ → ½", "10 € → 1 2"),
        ("", ""),
        ("?! -- ...", ""),
    ],
)
def test_a_text_is_cut_into_words(text: str, words: str) -> None:
    assert [word.text for word in cut(text)] == words.split()


@pytest.mark.parametrize("text", ["O'Reilly", "O’Reilly", "O\u02bcReilly", "o\u00b4reilly"])
def test_an_apostrophe_joins_its_parts_in_one_place(text: str) -> None:
    [word] = cut(text)

    assert (word.text, word.others) == ("oreilly", ("o", "reilly"))


def test_no_phrase_goes_from_the_title_to_the_description() -> None:
    assert document("one two", "three") == "'one':1A 'two':2A 'three':103"


@given(st.text(st.characters(codec="ascii"), max_size=60))
def test_plain_text_is_cut_like_all_other(text: str) -> None:
    plain = [(word.text, word.place) for word in cut(text)]

    assert [(word.text, word.place) for word in cut(text + " é")][:-1] == plain


def test_a_word_has_an_end() -> None:
    assert document("x" * 5_000) == f"'{'x' * LONGEST}':1A"
    assert len(document("é" * 5_000)) == LONGEST + 5


@given(TEXTS)
def test_a_word_has_nothing_that_could_end_it_in_a_query(text: str) -> None:
    for word in cut(text):
        for part in (word.text, *word.others):
            assert part
            assert not set("'\\\"&|!()<>:* \t\n\0") & set(part)


def test_the_mark_is_of_the_rule_and_the_texts() -> None:
    assert mark("a", "b") >> 32 == RULE
    assert len({mark("a", "b"), mark("ab", ""), mark("", "ab"), mark("b", "a")}) == 4
    assert 0 < mark("x" * 10_000) < 2**63


# -- searching ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "query"),
    [
        ("wash -car", "'wash':* & !'car'"),
        ('"new york"', "('new' <1> 'york')"),
        ("“new york”", "('new' <1> 'york')"),
        ("C++", "'c'"),
        ("C# re:", "'c' & 're'"),
        ("rep*", "'rep':*"),
        ("क्या कि", "'क्या':* & 'कि':*"),
        ('דו"ח "דו"ח שנתי"', "'דוח':* & ('דוח' <1> 'שנתי')"),
        ("PROJ-12", "('proj' <1> '12':*)"),
        ("-PROJ-12", "!('proj' <1> '12')"),
        ("a b or c", "'a':* & 'b':* | 'c':*"),
        ("write or", "'write':* & 'or':*"),
        ("or", "'or':*"),
        ('"or" x', "'or' & 'x':*"),
        ("売上", "'売上'"),
        ("売", "'売':*"),
        ('"売上 x"', "('売上' <2> 'x')"),
        ("O'Reilly", "'oreilly':*"),
        ("😀 -👍🏽", "'😀' & !'👍'"),
        ('tv 55"', "'tv':* & '55':*"),
        ('"unclosed phrase', "('unclosed' <1> 'phrase')"),
        ("--x", "!'x'"),
        ("- x -!", "'x':*"),
        ("", ""),
        ('- "" !? -', ""),
    ],
)
def test_what_is_typed_becomes_a_query(typed: str, query: str) -> None:
    assert tsquery(typed) == query


# -- ordering -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "texts",
    [
        ["task 2", "Task 2", "task 10", "task 010 b", "task 11"],
        ["version 1.2", "version 1.10", "version 2"],
        ["file 99999999", "file 123456789", "file 1234567890123", "file " + "9" * 400],
        ["resume", "Resume", "résumé", "Résumé", "resumes"],
        ["abc", "abC", "aBc", "Abc", "ABC", "abd"],
        ["Ábel", "Adam", "Äpfel", "Zoe"],
        ["a", "ä", "az", "b"],
        ["new york", "newark"],
        ["", " ", "-", "1", "a", "я", "あ", "漢", "가"],
        ["е", "Ё", "ж", "и", "й", "к"],
        ["г", "ґ", "д", "и", "иа", "і", "к"],
        ["あ", "イ", "う", "エ"],
        ["ب", "پ", "ت", "ج", "چ", "ح"],
        ["٢", "١٠"],
        ["２", "10"],
        ["😀", "1", "a"],
    ],
)
def test_texts_are_sorted_as_people_do(texts: list[str]) -> None:
    backwards = texts[::-1]

    assert sorted(backwards, key=sort_key) == texts


@given(TEXTS | st.text(max_size=3).map(lambda text: text.replace("\0", "") * 400))
def test_a_key_is_a_text_of_the_database_and_fits_into_an_index(text: str) -> None:
    key = sort_key(text)

    assert "\0" not in key
    assert len(key.encode()) <= 1_000


@given(TEXTS)
def test_a_key_does_not_depend_on_the_normal_form(text: str) -> None:
    assert sort_key(unicodedata.normalize("NFD", text)) == sort_key(unicodedata.normalize("NFC", text))
