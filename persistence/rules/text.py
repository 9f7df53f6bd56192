"""Texts as they are stored: composed (NFC), with nothing at the ends that nobody sees; and tags, folded.

Storing what was stored changes nothing. What is wrong with a text is said in words (`Wrong`).
"""

import re
import unicodedata

import idna

from persistence.models import characters
from persistence.models.characters import Ranges, regular
from persistence.models.tasks import TAG_MAX
from persistence.words.folding import MARKS_MAX, is_stream_safe

LONGEST = 4
"""So many times its greatest length a text may have before it is composed: U+1F82 is made of four characters."""
TYPED_MAX = 1_000
"""Characters that are composed of what somebody types to sign in; more are no address and no password of anybody."""
TAG_TYPED_MAX = LONGEST * TAG_MAX
"""Characters of what is folded; more are no tag."""


def members(ranges: Ranges) -> frozenset[str]:
    return frozenset(chr(point) for low, high in ranges for point in range(low, high + 1))


BLANK, AT_ENDS, BREAKS = members(characters.BLANK), members(characters.AT_ENDS), members(characters.BREAKS)
SELECTORS, FLAG_TAGS = members(characters.SELECTORS), members(characters.TAGS)
IN_NO_LINE = re.compile(f"[\\x00{regular(characters.IN_NO_LINE)}\ud800-\udfff]")
IN_NO_TEXT = re.compile(f"[\\x00{regular(characters.IN_NO_TEXT)}\ud800-\udfff]")
PLAIN_LINES = re.compile("[\t\n -~]*")
LINE_ENDS = re.compile("\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]")
DIRECTIONS = re.compile("[\u202a-\u202c\u2066-\u2069]")
CLOSES = {"\u202c": "\u202a\u202b", "\u2069": "\u2066\u2067\u2068"}
NO_TAG = re.compile(f"[{regular(characters.union(characters.INVISIBLE, but=(characters.JOINERS, characters.TAGS)))}]")
NO_SPACE = re.compile(f"[\t{regular(characters.SPACES)}]")
NO_MARKDOWN = re.compile("[^ \t\n]")
JOINERS = re.compile("[\u200c\u200d]")
REGION = re.compile("(?<=\U0001f3f4)([\U000e0020-\U000e007e]+\U000e007f)|[\U000e0020-\U000e007f]+")
PICTURE = re.compile("[\u00a9\u00ae\u203c-\u3299\U0001f000-\U0001faff]")
"""What may be a part of an emoji of several; no letter of any alphabet is joined by ZERO WIDTH JOINER among these."""


class Wrong(Exception):
    """What is wrong with a text, as the predicate of a sentence about it."""


def composed(text: str) -> str:
    """A text in NFC. One that nothing can be stored of stays as it is: that has too many marks in a row."""
    if text.isascii() or not is_stream_safe(text):
        return text
    return unicodedata.normalize("NFC", text)


def trimmed(text: str) -> str:
    """Without what nobody sees at the ends; empty if there is nothing to see."""
    if text.isascii() and text.isprintable():
        return text.strip(" ")
    begin, end = 0, len(text)
    while begin < end and text[begin] in AT_ENDS:
        begin += 1
    while end > begin and text[end - 1] in AT_ENDS:
        end -= 1
    if begin == end or all(character in BLANK for character in text[begin:end]):
        return ""
    return text[begin : end + len_of_form(text, end)]


def len_of_form(text: str, end: int) -> int:
    """How many of the characters after `end` belong to the one before: the form of an emoji, the region of a flag."""
    if end == len(text):
        return 0
    if text[end] in SELECTORS:
        return 1
    flag = REGION.match(text, end) if text[end] in FLAG_TAGS else None
    return len(flag[0]) if flag is not None and flag[1] else 0


def line(text: str) -> str:
    """A text of one line as it is stored. Raises `Wrong`."""
    if text.isascii() and text.isprintable():
        return text.strip(" ")
    text = trimmed(normal(text))
    if found := IN_NO_LINE.search(text):
        raise Wrong(named(found[0]))
    refuse_open_directions(text)
    return text


def lines(text: str) -> str:
    """A text of several lines as it is stored: they end with U+000A, and white space at the ends stays, because it
    means something in Markdown. Raises `Wrong`.
    """
    if PLAIN_LINES.fullmatch(text):
        return text if text.strip() else ""
    text = LINE_ENDS.sub("\n", normal(text))
    if not (cut := trimmed(text)):
        return ""
    if found := IN_NO_TEXT.search(cut):
        raise Wrong(named(found[0]))
    before, _, after = text.partition(cut)
    return NO_MARKDOWN.sub("", before) + cut + NO_MARKDOWN.sub("", after)


def normal(text: str) -> str:
    """A text in NFC. Raises `Wrong` for marks without end."""
    if text.isascii():
        return text
    if not is_stream_safe(text):
        raise Wrong(f"has more than {MARKS_MAX} combining marks in a row")
    return unicodedata.normalize("NFC", text)


def refuse_open_directions(text: str) -> None:
    """Raise `Wrong` unless what opens a run of a direction is closed, and the other way round (UAX 9, section 2)."""
    opened: list[str] = []
    for character in DIRECTIONS.findall(text):
        if character not in CLOSES:
            opened.append(character)
        elif opened and opened[-1] in CLOSES[character]:
            opened.pop()
        else:
            raise Wrong(f"contains {called(character)}, which closes what was not opened")
    if opened:
        raise Wrong(f"contains {called(opened[-1])}, which is not closed")


def tag(text: str) -> str:
    """A tag as it is stored: of those that look alike there is one. Raises `Wrong`.

    Compatible characters are one (NFKC), and upper and lower case (full case folding); nothing in it is invisible,
    except where it changes what is seen: between letters that join (RFC 5892, appendix A) and in emoji.
    """
    if text.isascii() and text.isprintable():
        return text.strip(" ").lower()
    text = trimmed(text)
    if len(text) > TAG_TYPED_MAX:
        return text  # which is too long
    if found := IN_NO_LINE.search(text):
        raise Wrong(named(found[0]))
    if not is_stream_safe(text):
        raise Wrong(f"has more than {MARKS_MAX} combining marks in a row")
    while (folded := fold_once(text)) != text:
        text = folded
    return text


def fold(text: str) -> str:
    """A tag to look for: one that cannot be stored stays as it is, and equals none."""
    try:
        return tag(text)
    except Wrong:
        return text


def fold_once(text: str) -> str:
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold().lower())
    text = NO_SPACE.sub(" ", REGION.sub(lambda found: found[1] or "", NO_TAG.sub("", text)))
    return JOINERS.sub(lambda found: found[0] if joins(text, found.start()) else "", text).strip(" ")


def joins(text: str, place: int) -> bool:
    """Whether the joiner there changes what is seen."""
    if idna.core.valid_contextj(text, place):
        return True
    around = text[place - 1 : place], text[place + 1 : place + 2]
    return text[place] == "\u200d" and all(map(PICTURE.match, around))


def password(text: str) -> str:
    """A password as it is hashed: one that looks alike is the same (RFC 8265, section 4.2: NFC)."""
    return text if len(text) > LONGEST * TYPED_MAX else composed(text)


def named(character: str) -> str:
    """What is wrong with a text that has this character, as it is said to people."""
    if character in BREAKS:
        return f"must have one line, and contains {called(character)}, a line break"
    if "\ud800" <= character <= "\udfff":
        return f"contains {called(character)}, half of a surrogate pair"
    if character in BLANK or character == "\0":
        kind = "a control character" if unicodedata.category(character) == "Cc" else "a character that cannot be seen"
        return f"contains {called(character)}, {kind}"
    return f"contains {called(character)}, which is not allowed here"


def called(character: str) -> str:
    """`U+202E RIGHT-TO-LEFT OVERRIDE`; control characters have no name."""
    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X}" + (f" {name}" if name else "")
