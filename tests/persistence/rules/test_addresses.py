"""Addresses: which are allowed, and in which one form they are stored."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from persistence.rules.addresses import OCTETS_MAX, address, spellings
from persistence.rules.text import Wrong
from persistence.rules.validation import Checked

DOMAIN_OF_189 = ".".join(["d" * 62] * 3)
DOMAIN_OF_190 = ".".join(["d" * 62, "d" * 62, "d" * 61, "dd"])


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("ada@example.org", "ada@example.org"),
        (" Ada@Example.ORG\n", "ada@example.org"),
        ("\u200bada@example.org\ufeff", "ada@example.org"),
        ("ada+todo.list_1@sub.example.co", "ada+todo.list_1@sub.example.co"),
        ("!#$%&'*+-/=?^_`{|}~@example.org", "!#$%&'*+-/=?^_`{|}~@example.org"),
        ("root@localhost", "root@localhost"),
        ("a@b--c.example", "a@b--c.example"),
        ("a@1.example", "a@1.example"),
        ("ada@b\u00fccher.example", "ada@xn--bcher-kva.example"),
        ("ada@bu\u0308cher.EXAMPLE", "ada@xn--bcher-kva.example"),
        ("ada@XN--Bcher-KVA.example", "ada@xn--bcher-kva.example"),
        ("ada@stra\u00dfe.example", "ada@xn--strae-oqa.example"),
        ("ada@example\u3002org", "ada@example.org"),
        ("\uff41da\uff20example.org", "ada@example.org"),
        ("AM\u00c9LIE@example.org", "am\u00e9lie@example.org"),
        ("ame\u0301lie@example.org", "am\u00e9lie@example.org"),
        ("\u7528\u6237@\u4f8b\u3048.\u30c6\u30b9\u30c8", "\u7528\u6237@xn--r8jz45g.xn--zckzah"),
        ("\u03a3\u0391\u03a3@example.org", "\u03c3\u03b1\u03c2@example.org"),
        ("a@x.\u03a3\u0391\u03a3", "a@x.xn--mxa9ab"),  # as UTS 46 maps it, whatever stands behind
        ("l" * 64 + "@" + DOMAIN_OF_189[:189], "l" * 64 + "@" + DOMAIN_OF_189[:189]),
        ("", ""),
        ("\u2800", ""),
    ],
)
def test_an_address_has_one_form(typed: str, stored: str) -> None:
    assert address(typed) == stored
    assert address(stored) == stored


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        ("ann\u200b@example.com", "INVALID_EMAIL", "U+200B ZERO WIDTH SPACE, a character that cannot be seen"),
        ("ann@exam\u00adple.com", "INVALID_EMAIL", "U+00AD SOFT HYPHEN, a character that cannot be seen"),
        ("ann@\u2060example.com", "INVALID_EMAIL", "U+2060 WORD JOINER"),
        ("a\u3164nn@example.com", "INVALID_EMAIL", "HANGUL"),
        ("an\u202en@example.com", "INVALID_EMAIL", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("ann\ufe0f@example.com", "INVALID_EMAIL", "U+FE0F VARIATION SELECTOR-16"),
        ("a\u200dnn@example.com", "INVALID_EMAIL", "U+200D ZERO WIDTH JOINER"),
        ("ann@exa\u200dmple.com", "INVALID_EMAIL", "no domain"),
        ("a nn@example.com", "INVALID_EMAIL", "U+0020 SPACE"),
        ("ann@exam ple.com", "INVALID_EMAIL", "U+0020 SPACE"),
        ("ann\0@example.com", "INVALID_EMAIL", "U+0000, a control character"),
        ("ann\ud800@example.com", "INVALID_EMAIL", "U+D800, half of a surrogate pair"),
        ("@-", "INVALID_EMAIL", "before the @"),
        ("a@-", "INVALID_EMAIL", "no domain"),
        ("a@b..c", "INVALID_EMAIL", "no domain"),
        ("a@.b", "INVALID_EMAIL", "no domain"),
        ("a@b.", "INVALID_EMAIL", "no domain"),
        ("a@-b.c", "INVALID_EMAIL", "no domain"),
        ("a@b-.c", "INVALID_EMAIL", "no domain"),
        ("a@b_c.d", "INVALID_EMAIL", "no domain"),
        ("a@b/c", "INVALID_EMAIL", "no domain"),
        ("a@[192.0.2.1]", "INVALID_EMAIL", "no domain"),
        ("a@192.0.2.1", "INVALID_EMAIL", "no domain"),
        ("a@example.123", "INVALID_EMAIL", "no domain"),
        ("a@xn--a.example", "INVALID_EMAIL", "no domain"),
        ("a@xn--.example", "INVALID_EMAIL", "no domain"),
        ("a@\U0001f600.example", "INVALID_EMAIL", "no domain"),
        ("a@" + "d" * 64 + ".example", "INVALID_EMAIL", "no domain"),
        ("a@b@c", "INVALID_EMAIL", "no domain"),
        ("a", "INVALID_EMAIL", "an address such as ada@example.org"),
        ("a@", "INVALID_EMAIL", "no domain"),
        (".a@example.org", "INVALID_EMAIL", "before the @"),
        ("a.@example.org", "INVALID_EMAIL", "before the @"),
        ("a..b@example.org", "INVALID_EMAIL", "before the @"),
        ("a\u2026b@example.org", "INVALID_EMAIL", "before the @"),
        ('"a b"@example.org', "INVALID_EMAIL", "U+0020 SPACE"),
        ('"ab"@example.org', "INVALID_EMAIL", "before the @"),
        ("a,b@example.org", "INVALID_EMAIL", "before the @"),
        ("<a@example.org>", "INVALID_EMAIL", "before the @"),
        ("l" * 65 + "@example.org", "TOO_LONG", "65 octets before the @; at most 64"),
        ("\u00e9" * 33 + "@example.org", "TOO_LONG", "66 octets before the @; at most 64"),
        ("l" * 64 + "@" + DOMAIN_OF_190, "TOO_LONG", "255 octets; at most 254"),
        ("a@" + "d." * 200 + "d", "TOO_LONG", "401 characters after the @; at most 255"),
        ("a" * 100_000, "TOO_LONG", "100,000"),
        ("", "TOO_SHORT", "must not be empty"),
        ("\u200b", "TOO_SHORT", "must not be empty"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(typed: str, code: str, said: str) -> None:
    checked = Checked()
    checked.email(typed)

    (problem,) = checked.problems
    assert (problem.code, problem.path) == (code, ("email",))
    assert said in problem.message


parts = st.text(st.characters() | st.sampled_from("aB.-\u00fc\u0301\u200d\u3002\uff20\u00df@"), max_size=12)


@given(local=parts, domain=parts)
@example(local="a", domain="xn--ls8h.la")
@example(local="\u0345", domain="\u0130.com")
def test_an_address_that_was_stored_is_stored_as_it_is(local: str, domain: str) -> None:
    try:
        stored = address(f"{local}@{domain}")
    except Wrong:
        return

    assert address(stored) == stored
    assert len(stored.encode()) <= OCTETS_MAX
    assert stored.partition("@")[2].isascii()
    assert spellings(stored) == [stored]


def test_who_signs_in_may_mean_an_address_that_is_older_than_the_rules() -> None:
    assert spellings("ANN\u200b@example.com") == ["ann\u200b@example.com"]
    assert spellings("Ada@B\u00fccher.example") == ["ada@b\u00fccher.example", "ada@xn--bcher-kva.example"]
    assert spellings("ada@xn--bcher-kva.example") == ["ada@xn--bcher-kva.example"]
    assert spellings("\u200bada@example.org") == ["\u200bada@example.org", "ada@example.org"]
    assert spellings("x" * 5_000) == ["x" * 5_000]
