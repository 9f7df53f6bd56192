"""Searching: from what people type to a tsquery, by the rule that has cut the texts.

Words must all occur, each also as a beginning unless a mark ends it (`C++`, `re:`). Quotes make a phrase of whole
words, `-` says what must not occur as a whole word or phrase, `or` stands between alternatives. Nothing that is typed
is an error.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from persistence.words.cutting import END, LETTER, WORD, Word, cut
from persistence.words.folding import with_gershayim

_QUOTES = "\u201c\u201d\u201e\u201f\u00ab\u00bb\uff02\u301d\u301e\u301f"
_ALIKE = str.maketrans(dict.fromkeys(_QUOTES, '"') | {"\uff0d": "-"})
_TERM = re.compile(r'(-*)(?:"([^"]*)"?|([^\s"]+))')
OR = "or"


def tsquery(typed: str) -> str:
    """The text of a tsquery; an empty one, which finds nothing, when there is no word in what was typed."""
    terms = list(_terms(with_gershayim(typed.translate(_ALIKE))))
    alternatives: list[list[str]] = [[]]
    for n, (term, is_or) in enumerate(terms):
        if is_or and alternatives[-1] and n + 1 < len(terms):
            alternatives.append([])
        else:
            alternatives[-1].append(term)
    return " | ".join(" & ".join(terms) for terms in alternatives)


def _terms(typed: str) -> Iterator[tuple[str, bool]]:
    """What must or must not occur, and whether it is the word between alternatives."""
    for minus, phrase, plain in _TERM.findall(typed):
        term = _phrase(list(cut(plain or phrase)), beginning=not minus and is_beginning(plain))
        if term:
            yield f"!{term}" if minus else term, not minus and plain.lower() == OR


def is_beginning(plain: str) -> bool:
    """Whether words that are typed so may go on: nothing stands behind them but a star, which asks for that."""
    return bool(plain) and (plain[-1] == "*" or unicodedata.category(plain[-1])[0] not in "PS")


def _phrase(words: Sequence[Word], *, beginning: bool) -> str:
    """Words side by side. The letters of a script without spaces may be a part of what they are found in, anywhere."""
    asked = [word for word in words if word.kind != END]
    text, before = "", 0
    for n, word in enumerate(asked, 1):
        # All that a word is made of is letters, marks, digits and symbols: no quote ends it.
        lexeme = f"'{word.text}'"
        if word.kind == LETTER or (word.kind == WORD and beginning and n == len(asked)):
            lexeme += ":*"
        text += f" <{word.place - before}> {lexeme}" if text else lexeme
        before = word.place
    return f"({text})" if len(asked) > 1 else text
