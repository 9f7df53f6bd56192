"""Cutting: the words of a text with their places, and what the database keeps of them.

- Letters, marks and digits of any script make words: `PROJ-123`, `report.pdf` and the parts of a URL are several, side
  by side, so that the whole is found as a phrase of its parts.
- An apostrophe joins: `O'Reilly` is `o`, `reilly` and `oreilly`, all in one place.
- Where words are not written apart (Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese and their neighbours) each
  letter begins a pair with the next one, so that whatever occurs in it is found.
- A symbol is a word, so is an emoji, and a flag.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final, NamedTuple

from persistence.words.folding import fold

LONGEST = 200
"""Characters of a word that count. PostgreSQL takes 2,046 bytes."""

LAST = 16_383
"""The last place that PostgreSQL knows: a text that is so long in words is searched to there."""

GAP = 100
"""Places between two texts of a row, so that no phrase goes from one to the other."""


class Word(NamedTuple):
    """A word as it is looked for, its place in the text, and what else is found there."""

    text: str
    place: int
    kind: str
    others: tuple[str, ...] = ()


WORD, LETTER, PAIR, END, SYMBOL = "word", "letter", "pair", "end", "symbol"
"""A word; a letter alone of a script without spaces, a pair of such letters, the last one of several; a symbol."""

APOSTROPHES: Final = "'\u2018\u2019\u02bb\u02bc\u00b7\u05f3\u05f4"
"""The last three: the Catalan middle dot, and what Hebrew abbreviations have."""

_UNSPACED: Final = (
    (0x0E01, 0x0E4E),  # Thai
    (0x0E81, 0x0EDF),  # Lao
    (0x1000, 0x109F),  # Burmese
    (0x1100, 0x11FF),  # Hangul, in parts
    (0x1780, 0x17D3),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B4B),  # Balinese
    (0x2E80, 0x2FDF),  # radicals
    (0x3005, 0x3007),
    (0x3021, 0x3029),
    (0x3031, 0x3035),
    (0x3038, 0x30FF),  # Kana
    (0x3100, 0x31BF),  # Bopomofo, Hangul
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xA960, 0xA97F),
    (0xA980, 0xA9C0),  # Javanese
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAADF),
    (0xAC00, 0xD7FF),  # Hangul
    (0xF900, 0xFAFF),
    (0x16FE0, 0x18DFF),  # Tangut, Khitan
    (0x1AFF0, 0x1B16F),
    (0x20000, 0x3FFFF),  # Han
)


class _Classes(dict[int, str]):
    """What a character of a folded text is: w (of a word), u (of a script without spaces), a (an apostrophe),
    f (half of a flag), t (of a flag's tag), s (a symbol), or a space."""

    def __missing__(self, code: int) -> str:
        category = unicodedata.category(chr(code))
        if category[0] in "LMN":
            found = "u" if any(first <= code <= last for first, last in _UNSPACED) else "w"
        elif 0x1F1E6 <= code <= 0x1F1FF:
            found = "f"
        elif 0xE0020 <= code <= 0xE007F:
            found = "t"
        elif (category[0] == "S" and code > 0x7F) or category in ("Cn", "Co"):
            found = "s"  # what this Python does not know is most likely an emoji
        else:
            found = " "
        self[code] = found
        return found


_CLASSES = _Classes({ord(apostrophe): "a" for apostrophe in APOSTROPHES} | {0x2044: " "})  # the slash in a fraction
_TOKENS = re.compile("w+(?:aw+)*|u+|ff?|st*")
_ASCII = re.compile("[a-z0-9]+(?:'[a-z0-9]+)*")
_PLAIN = bytes(ord(chr(code).lower()) if code < 128 and chr(code).isalnum() else ord(" ") for code in range(256))
_APOSTROPHE = re.compile(f"[{APOSTROPHES}]")


def cut(text: str, place: int = 1) -> Iterator[Word]:
    """The words of a text in their order, from a place on."""
    text = fold(text)
    if text.isascii():
        for token in _ASCII.findall(text):
            yield _word(token, place)
            place += 1
        return
    for match in _TOKENS.finditer(text[: 2 * LAST].translate(_CLASSES)):
        token = text[match.start() : match.end()]
        kind = match[0][0]
        if kind == "w":
            yield _word(token, place)
        elif kind != "u":
            yield Word(token[:LONGEST], place, SYMBOL)
        elif len(token) == 1:
            yield Word(token, place, LETTER)
        else:
            for n in range(len(token) - 1):
                yield Word(token[n : n + 2], place + n, PAIR)
            place += len(token) - 1
            yield Word(token[-1], place, END)
        place += 1


def _word(token: str, place: int) -> Word:
    parts = _APOSTROPHE.split(token)
    others = tuple(part[:LONGEST] for part in parts) if len(parts) > 1 else ()
    return Word("".join(parts)[:LONGEST], place, WORD, others)


def document(*texts: str) -> str:
    """The words of a row as the text of a tsvector; those of the first text count more (weight A)."""
    entries: list[str] = []
    place, weight = 1, "A"
    for text in texts:
        if text:
            if text.isascii() and "'" not in text:
                for plain in text.encode().translate(_PLAIN).decode().split():  # a third of the expression's time
                    entries.append(f"'{plain[:LONGEST]}':{place}{weight}")  # a comprehension is a call
                    place += 1
            else:
                for word in cut(text, place):
                    place = word.place + 1
                    entries += [f"'{one}':{word.place}{weight}" for one in (word.text, *word.others)]
            place += GAP
        weight = ""
    return " ".join(entries)
