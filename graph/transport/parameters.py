"""The parameters of a GraphQL request, from a JSON body, a URL or the message of a WebSocket.

Everything here is strict: a request that can be read in two ways is refused with a sentence that says why. Text that is
no JSON is answered 400, JSON of another shape 422, except that a body that is no object at all is answered 400 too.
"""

import codecs
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import orjson

from graph.execution.errors import RequestError

BAD_REQUEST = "BAD_REQUEST"

MAX_GET_PARAMETERS = 20
WHITE_SPACE = b" \t\n\r"


@dataclass(slots=True)
class Parameters:
    """What a client asks for (GraphQL over HTTP, sections "Request Parameters" and appendix "Persisted Documents")."""

    query: str | None = None
    operation_name: str | None = None
    variables: dict[str, Any] | None = None
    extensions: dict[str, Any] | None = None
    document_id: str | None = None


def bad_request(message: str, status: int = 400, **headers: str) -> RequestError:
    """The refusal of a request that GraphQL never sees; keyword arguments are headers (`_` for `-`)."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return RequestError(message, BAD_REQUEST, status=status, headers=names)


def from_json(body: bytes) -> Parameters:
    """The parameters of a POST body. Raises RequestError."""
    value = load_json(body.removeprefix(codecs.BOM_UTF8), "The request body")  # RFC 8259, section 8.1, allows to
    if type(value) is dict:
        return from_mapping(value)
    if isinstance(value, list):
        raise bad_request("The request body must be a JSON object, not an array: send one operation per request")
    raise bad_request(f"The request body must be a JSON object, not {json_type(value)}")


def from_mapping(value: dict[str, Any]) -> Parameters:
    """The parameters in a JSON object; unknown members are ignored, as the specification asks. Raises RequestError."""
    get = value.get
    parameters = Parameters(get("query"), get("operationName"), get("variables"), get("extensions"), get("documentId"))
    if (query := parameters.query) is not None and type(query) is not str:
        raise _wrong("query", "a string", query)
    if (name := parameters.operation_name) is not None and type(name) is not str:
        raise _wrong("operationName", "a string", name)
    if (variables := parameters.variables) is not None and type(variables) is not dict:
        raise _wrong("variables", "an object", variables)
    if (extensions := parameters.extensions) is not None and type(extensions) is not dict:
        raise _wrong("extensions", "an object", extensions)
    if (document_id := parameters.document_id) is not None and type(document_id) is not str:
        raise _wrong("documentId", "a string", document_id)
    return parameters


def from_query_string(raw: bytes) -> Parameters:
    """The parameters of a GET request; an empty one counts as absent. Raises RequestError."""
    if raw.count(b"&") >= MAX_GET_PARAMETERS:
        raise bad_request(f"The URL has more than {MAX_GET_PARAMETERS} parameters")
    values: dict[str, str] = {}
    for item in raw.decode("latin-1").split("&"):
        name, _, value = item.partition("=")
        try:
            name, value = unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict")
        except UnicodeDecodeError:
            raise bad_request("The URL is not percent-encoded UTF-8") from None
        if name in values:
            raise bad_request("A parameter stands twice in the URL")
        values[name] = value
    return Parameters(
        query=values.get("query") or None,
        operation_name=values.get("operationName") or None,
        variables=_json_object(values, "variables"),
        extensions=_json_object(values, "extensions"),
        document_id=values.get("documentId") or None,
    )


def _json_object(values: dict[str, str], name: str) -> dict[str, Any] | None:
    text = values.get(name)
    if not text:
        return None
    value = load_json(text.encode(), f"The parameter `{name}`")
    if value is not None and not isinstance(value, dict):
        raise _wrong(name, "an object", value)
    return value


def load_json(text: bytes, what: str) -> Any:
    """The value of a JSON text, read strictly. Raises RequestError (400) that calls the text `what`.

    Refused, besides what is no JSON (RFC 8259): members of the same name, whose meaning is undefined, and numbers that
    do not fit into 64 bits, which would lose digits.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        problem = error.msg if text else "it is empty"
        if "UTF-8:" in problem:  # orjson speaks of a `str`
            problem = "it is not UTF-8"
        raise bad_request(f"{what} is not valid JSON: {problem}") from None
    # What is written back the same, but for white space, had nothing to hide: a member that was dropped or a digit
    # that was lost would be missing. This is most requests, and takes 1 us where the search takes 12.
    try:
        again = orjson.dumps(value)
        unchanged = again == text or again.translate(None, WHITE_SPACE) == text.translate(None, WHITE_SPACE)
    except orjson.JSONEncodeError:  # its one objection to what it has read itself
        raise bad_request(f"{what} is nested too deeply") from None
    if not unchanged:
        _search(text, what)
    return value


def _search(text: bytes, what: str) -> None:
    """Raise RequestError for what orjson accepts although it loses something of it."""

    def members(pairs: list[tuple[str, Any]]) -> None:
        if len(pairs) > 1 and len(dict(pairs)) != len(pairs):
            raise bad_request(f"{what} is not valid JSON: a name stands twice in an object")

    def integer(digits: str) -> None:
        if len(digits) > 18 and (len(digits) > 20 or not -(2**63) <= int(digits) < 2**64):
            raise bad_request(f"{what} holds an integer that does not fit into 64 bits")

    json.loads(text, object_pairs_hook=members, parse_int=integer)


def json_type(value: Any) -> str:
    """The name of a JSON value's type, with its article."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "an object")


def _wrong(name: str, expected: str, value: Any) -> RequestError:
    return bad_request(f"The parameter `{name}` must be {expected}, not {json_type(value)}", 422)
