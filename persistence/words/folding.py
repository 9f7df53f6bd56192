"""Folding: what texts have in common that differ in case, accents, width and in what nobody sees.

Compatibility decomposition, then case folding without the marks that are accents (Unicode Standard Annex #15; Unicode
Standard, section 3.13), then composition: marks that make another letter, as in Kana, Hangul, Thai and the scripts of
India, stay.
"""

import re
import unicodedata
from typing import Final

MARKS_MAX: Final = 30
"""Combining marks in a row: Unicode Standard Annex 15, Stream-Safe Text Format. Ordering them takes quadratic time."""

ACCENTS: Final = (
    "\u0300-\u036f\u0483-\u0489"  # Latin, Greek, Cyrillic
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"  # Hebrew points and accents
    "\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"  # Arabic
    "\u08ca-\u08e1\u08e3-\u08ff"
    "\u0711\u0730-\u074a"  # Syriac
    "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
    "\U0001f3fb-\U0001f3ff"  # skin tones
)
INVISIBLE: Final = (
    "\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Default_Ignorable_Code_Point of the Unicode Character Database. Tags after a black flag make it a country's."""

_LEFT_OUT = re.compile(f"(\U0001f3f4[\U000e0020-\U000e007f]+)|[{ACCENTS}{INVISIBLE}]+")


class _Letters(dict[int, str]):
    """Letters that people take for others without an accent, though Unicode does not, and the digits of all scripts."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        digit = unicodedata.decimal(letter, None)
        self[code] = letter if digit is None else str(digit)
        return self[code]


_LETTERS = _Letters(
    str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ŧ": "t", "\u0131": "i", "ŋ": "n"})
    | str.maketrans({"æ": "ae", "œ": "oe", "þ": "th"})
    # Keyboards of Arabic, Persian and Urdu have different ones for what readers take for one letter.
    | str.maketrans({"ک": "ك", "ی": "ي", "ى": "ي", "ة": "\u0647"})
)
_GERSHAYIM = re.compile('(?<=[\u0591-\u05ea])"(?=[\u05d0-\u05ea])')


def with_gershayim(text: str) -> str:
    """The text with the mark of Hebrew abbreviations (U+05F4) where people type a quote for it, between letters."""
    return _GERSHAYIM.sub("\u05f4", text) if '"' in text else text


def is_stream_safe(text: str) -> bool:
    """Whether no more than `MARKS_MAX` combining marks follow each other."""
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > MARKS_MAX:
            return False
    return True


def fold(text: str) -> str:
    """The text without case, accents, width and invisible characters. Folding twice changes nothing."""
    if text.isascii():
        return text.lower()
    # Without accents first, which take long to be put in order. An acute alone would become a space.
    text = _LEFT_OUT.sub(r"\1", text.replace("\u00b4", "'"))
    if not is_stream_safe(text):
        # No text that is stored: to order so many marks takes quadratic time.
        return _LEFT_OUT.sub(r"\1", text.casefold()).translate(_LETTERS)
    text = unicodedata.normalize("NFKD", text)
    text = _LEFT_OUT.sub(r"\1", text).casefold()
    text = _LEFT_OUT.sub(r"\1", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFC", with_gershayim(text.translate(_LETTERS)))


def folded(text: str) -> str | None:
    """The folded text where it is not what `lower` makes of it in any database (collation C): for few texts."""
    return None if text.isascii() else fold(text)
