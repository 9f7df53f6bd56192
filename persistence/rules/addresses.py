"""Addresses of mail, in the one form in which they are stored.

Allowed is what mail uses of RFC 5321 and RFC 6531: an unquoted local part, in any alphabet, and the name of a domain.
The domain is stored as DNS has it (A-labels, RFC 5891), so that `bücher.example` and `xn--bcher-kva.example` are one
and what only looks like another name can be seen; the local part in NFKC and lower case.
"""

import re
import unicodedata
from contextlib import suppress

import idna

from persistence.rules import text as texts
from persistence.rules.text import Wrong

LOCAL_MAX, DOMAIN_MAX, OCTETS_MAX = 64, 255, 254
"""Octets: RFC 5321, sections 4.5.3.1.1 to 4.5.3.1.3; a path of 256 has two brackets around the address."""
EXAMPLE = "must be an address such as ada@example.org"
LOCAL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+)*")
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
JOINERS = frozenset("\u200c\u200d")


class TooLong(Wrong):
    """A part has too many octets."""


def address(text: str) -> str:
    """An address as it is stored. Raises `Wrong`; what is nothing but blanks is empty."""
    text = texts.trimmed(text)
    if len(text) > OCTETS_MAX * texts.LONGEST:
        raise TooLong(f"has {len(text):,} characters; at most {OCTETS_MAX} octets are allowed")
    local, at, domain = unicodedata.normalize("NFKC", text).partition("@")
    for character in local + "".join(set(domain) - JOINERS):  # of joiners in domains IDNA has rules
        if character in texts.BLANK or unicodedata.category(character) in ("Cc", "Cs", "Co", "Cn"):
            raise Wrong(texts.named(character))
    local, domain = folded(local), domain.lower() if domain.isascii() else domain
    octets = len(local.encode())
    if octets > LOCAL_MAX:
        raise TooLong(f"has {octets:,} octets before the @; at most {LOCAL_MAX} are allowed")
    if len(domain) > DOMAIN_MAX:
        raise TooLong(f"has {len(domain):,} characters after the @; at most {DOMAIN_MAX} are allowed")
    if not at:
        if text:
            raise Wrong(EXAMPLE)
        return ""
    if LOCAL.fullmatch(local) is None:
        raise Wrong(f"{EXAMPLE}; what stands before the @ is none")
    domain = in_dns(domain)
    if octets + 1 + len(domain) > OCTETS_MAX:
        raise TooLong(f"has {octets + 1 + len(domain):,} octets; at most {OCTETS_MAX} are allowed")
    return f"{local}@{domain}"


def folded(local: str) -> str:
    """A local part without regard to case and to the width or style of characters."""
    while (once := unicodedata.normalize("NFKC", local.lower())) != local:
        local = once
    return local


def in_dns(domain: str) -> str:
    """The name of a domain as DNS has it. Raises `Wrong` where there can be none (RFC 1123, section 2.1; RFC 3696)."""
    try:
        mapped = domain if domain.isascii() else idna.uts46_remap(domain, std3_rules=True, transitional=False)
        labels = [label if is_plain(label) else idna.alabel(label).decode() for label in mapped.split(".")]
    except UnicodeError:  # which idna's are
        labels = [""]
    if not all(map(LABEL.fullmatch, labels)) or labels[-1].isdecimal():
        raise Wrong(f"{EXAMPLE}; there can be no domain of the name after the @")
    return ".".join(labels)


def is_plain(label: str) -> bool:
    return label.isascii() and not label.startswith("xn--")


def spellings(text: str) -> list[str]:
    """The addresses that somebody may mean who signs in: as it was typed, and as it is stored now.

    Accounts that are older than these rules may have an address that keeps them in no form, and work all the same.
    The last is the same however one account's address is written.
    """
    found = [unicodedata.normalize("NFC", text.lower()).strip()] if len(text) <= texts.TYPED_MAX else []
    with suppress(Wrong):
        found.append(address(text))
    return list(dict.fromkeys(found)) or [text]
