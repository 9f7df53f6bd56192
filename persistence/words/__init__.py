"""The one rule by which words are folded, cut, searched for and sorted, whatever the database's locale.

All of it is Python: the database stores what was made here (`persistence.models.derived`) and compares bytes.
"""

import unicodedata
import zlib

RULE = 2_000 + int("".join(unicodedata.unidata_version.split(".")[:2]))
"""The rule that a row's texts were cut by: 2, counted up with every change of these modules, and Python's Unicode."""


def mark(*texts: str) -> int:
    """By which rule, and of which texts, the derived columns of a row were made: for other texts it is another."""
    return RULE << 32 | zlib.crc32("\0".join(texts).encode())
