"""Media types of GraphQL over HTTP: what a request is written in and what its answer shall be.

Follows the first edition (September 2026) of the GraphQL over HTTP specification, sections "Media Types" and "Body",
and RFC 9110, sections 8.3 (media types) and 12.5 (negotiation). Most requests carry the same few headers, so what
was parsed is remembered.
"""

import re
from functools import lru_cache
from typing import Final

GRAPHQL_RESPONSE: Final = "application/graphql-response+json"
JSON: Final = "application/json"
HTML: Final = "text/html"

# Longer headers are parsed each time: what is remembered of clients' headers stays small.
REMEMBERED_LENGTH = 300

PARAMETER = re.compile(r""";[ \t]*+(?:([\w!#$%&'*+.^`|~-]++)=(?:"((?:[^"\\]|\\.)*+)"|([^;,"\s]*+)))?[ \t]*+""")
QUALITY = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?")


def content_type_problem(header: bytes | None) -> str | None:
    """What is wrong with the Content-Type of a request, or None: it must be JSON in UTF-8.

    The type is compared exactly. This also keeps other sites from sending requests in the name of a visitor, because a
    browser asks first before it sends JSON elsewhere (CORS).
    """
    if header == b"application/json":
        return None
    if header is None:
        return f"The Content-Type must be {JSON}"
    return _content_type_problem(header) if len(header) <= REMEMBERED_LENGTH else "The Content-Type is too long"


@lru_cache(256)
def _content_type_problem(header: bytes) -> str | None:
    parsed = _media_type(header.decode("latin-1").strip())
    if parsed is None or parsed[0] != JSON:
        return f"The Content-Type must be {JSON}"
    if parsed[1].get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        return "The charset of the request must be utf-8"
    return None


def _media_type(text: str) -> tuple[str, dict[str, str]] | None:
    """The type in lower case and its parameters, or None for what is no media type."""
    name, semicolon, rest = text.partition(";")
    parameters: dict[str, str] = {}
    rest, position = semicolon + rest, 0
    while position < len(rest):
        match = PARAMETER.match(rest, position)
        if match is None:
            return None
        if match[1]:
            value = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2])
            parameters.setdefault(match[1].lower(), value)
        position = match.end()
    return name.strip().lower(), parameters


def preferred(header: bytes | None, page: bool = False) -> str | None:
    """The media type of the answer that an Accept header asks for, or None for a 406; HTML only for a `page`.

    The highest quality wins, then the order in the header. A wildcard stands for `application/json`, since nobody who
    asks for "anything" said that they know the newer type and the status codes that come with it.
    """
    if header is None or header == b"*/*":
        return JSON
    if len(header) > REMEMBERED_LENGTH:
        return _preferred.__wrapped__(header, page)
    return _preferred(header, page)


@lru_cache(256)
def _preferred(header: bytes, page: bool) -> str | None:
    items = _items(header.decode("latin-1"))
    if not items:
        return JSON  # an empty one asks for nothing in particular, with commas as well (RFC 9110, section 5.6.1.2)
    ranges: dict[str, tuple[float, int]] = {}
    for position, item in enumerate(items):
        parsed = _media_type(item)
        if parsed is None:
            continue
        name, parameters = parsed
        quality = parameters.get("q", "1")
        if not QUALITY.fullmatch(quality) or parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
            continue
        ranges.setdefault(name, (float(quality), -position))
    candidates: list[tuple[tuple[float, int], str]] = []
    for name, wildcards in (
        (GRAPHQL_RESPONSE, ()),
        (JSON, ("application/*", "*/*")),
        (HTML, ("text/*",)),
    ):
        found = next((ranges[key] for key in (name, *wildcards) if key in ranges), None)
        if found is not None and found[0] > 0 and (page or name is not HTML):
            candidates.append((found, name))
    if candidates:
        return max(candidates)[1]
    # `application/json;q=0, */*` still takes the newer type.
    wildcard = ranges.get("application/*", ranges.get("*/*"))
    refused = ranges.get(GRAPHQL_RESPONSE)
    return GRAPHQL_RESPONSE if wildcard and wildcard[0] > 0 and refused is None else None


def _items(header: str) -> list[str]:
    """The members of a list header; commas inside quotes do not separate."""
    if '"' not in header:
        return [item.strip() for item in header.split(",") if item.strip()]
    return [item.strip() for item in re.findall(r'(?:[^,"]++|"(?:[^"\\]|\\.)*+"?)++', header) if item.strip()]


def accepts_gzip(header: bytes | None) -> bool:
    """Whether an Accept-Encoding header takes gzip."""
    if header is None:
        return False
    return _accepts_gzip(header) if len(header) <= REMEMBERED_LENGTH else False


@lru_cache(256)
def _accepts_gzip(header: bytes) -> bool:
    qualities: dict[str, float] = {}
    for item in _items(header.decode("latin-1")):
        parsed = _media_type(item)
        if parsed is not None and QUALITY.fullmatch(quality := parsed[1].get("q", "1")):
            qualities[parsed[0]] = float(quality)
    return qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0))) > 0
