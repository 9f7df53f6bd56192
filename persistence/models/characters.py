"""The characters that texts may not have, as a table that stands still.

Neither Python's Unicode tables nor the database's are asked: they are of different versions, and would disagree about
what is new. This table is the one rule for both, and the CHECKs of the models are made of it; who changes it writes a
migration that makes them anew. From Unicode 17.0, `DerivedCoreProperties.txt` (Default_Ignorable_Code_Point) and
`UnicodeData.txt` (Cc, Zs, Zl, Zp), and what is blank in fonts (U+2800, U+1D159, U+16FE4).
"""

Ranges = tuple[tuple[int, int], ...]

BREAKS: Ranges = ((0x0A, 0x0D), (0x1C, 0x1E), (0x85, 0x85), (0x2028, 0x2029))
"""What ends a line: Unicode Standard, section 5.8, and the separators that `str.splitlines` knows as well."""
CONTROLS: Ranges = ((0x01, 0x1F), (0x7F, 0x9F), (0x2028, 0x2029))
"""What is no text, line breaks among them. Of U+0000 there is none in PostgreSQL, so it is wrong wherever it stands."""
SPACES: Ranges = ((0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x202F, 0x202F), (0x205F, 0x205F))
SPACES += ((0x3000, 0x3000),)
OVERRIDES: Ranges = ((0x202D, 0x202E),)
"""What makes text run backwards."""
DIRECTIONS: Ranges = ((0x202A, 0x202E), (0x2066, 0x2069))
"""What opens and closes runs of a direction: it comes in pairs, so it is never cut off alone."""
JOINERS: Ranges = ((0x200C, 0x200D),)
SELECTORS: Ranges = ((0x180B, 0x180D), (0x180F, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
"""What chooses the form of the character before it, as in an emoji."""
TAGS: Ranges = ((0xE0020, 0xE007F),)
"""What spells the region of a flag after U+1F3F4."""
INVISIBLE: Ranges = (
    *((0xAD, 0xAD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x2800, 0x2800), (0x3164, 0x3164), (0xFE00, 0xFE0F)),
    *((0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFFB), (0x13430, 0x1343F), (0x16FE4, 0x16FE4)),
    *((0x1BCA0, 0x1BCA3), (0x1D159, 0x1D159), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
"""What nobody sees."""


def union(*sets: Ranges, but: tuple[Ranges, ...] = ()) -> Ranges:
    """The code points of some sets that are in none of others, as few ranges as there can be."""
    without = {point for ranges in but for low, high in ranges for point in range(low, high + 1)}
    points = {point for ranges in sets for low, high in ranges for point in range(low, high + 1)} - without
    found: list[tuple[int, int]] = []
    for point in sorted(points):
        if found and found[-1][1] == point - 1:
            found[-1] = (found[-1][0], point)
        else:
            found.append((point, point))
    return tuple(found)


BLANK = union(CONTROLS, SPACES, INVISIBLE)
"""What a text cannot consist of."""
AT_ENDS = union(BLANK, but=(DIRECTIONS,))
"""What is cut off at both ends."""
AT_THE_END = union(AT_ENDS, but=(SELECTORS, TAGS))
"""What no text ends with; a form and a flag may."""
IN_NO_LINE = union(CONTROLS, OVERRIDES, but=(((0x09, 0x09),),))
"""What no text of one line has in it. A tab is a space."""
IN_NO_TEXT = union(CONTROLS, but=(((0x09, 0x0A), (0x2028, 0x2029)),))
"""What no text of several lines has in it."""
IN_NO_TAG = union(BLANK, but=(((0x20, 0x20),), JOINERS, TAGS))
"""What no tag has in it, and but for a space none begins or ends with."""


def regular(ranges: Ranges) -> str:
    """The inside of a bracket expression, for PostgreSQL and for Python alike."""

    def escaped(point: int) -> str:
        return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"

    return "".join(escaped(low) + (f"-{escaped(high)}" if high > low else "") for low, high in ranges)


def one_line(column: str) -> str:
    """The CHECK of a text that is not empty, has one line, and something to see at both ends."""
    first, last, inner = regular(union(AT_ENDS, OVERRIDES)), regular(union(AT_THE_END, OVERRIDES)), regular(IN_NO_LINE)
    return f"{column} ~ '^[^{first}]([^{inner}]*[^{last}])?$'"


def one_tag(name: str) -> str:
    """The rule of a tag in the function of the database that looks at each: no space at its ends, no A to Z."""
    inner, ends = union(IN_NO_TAG, ((0x41, 0x5A),)), union(IN_NO_TAG, ((0x41, 0x5A), (0x20, 0x20)), JOINERS)
    first, last = union(ends, TAGS), union(ends, ((0xE0020, 0xE007E),))
    return f"{name} ~ '^[^{regular(first)}]([^{regular(inner)}]*[^{regular(last)}])?$'"
