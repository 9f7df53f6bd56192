"""What is refused as a request, with a sentence that says why; nothing a client sends is a 500."""

import json
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.execution.errors import RequestError
from graph.transport.parameters import Parameters, from_json, from_query_string
from tests.execution.http_schema import Application

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b"NONSENSE", "not valid JSON"),
        (b'{"query":', "not valid JSON"),
        (b'{"query":"{ hello }"} x', "not valid JSON"),
        (b"[]", "an array"),
        (b'[{"query":"{ hello }"}]', "one operation per request"),
        (b"7", "a number"),
        (b"null", "null"),
        (b'"{ hello }"', "a string"),
        (b"true", "a boolean"),
        (b"NaN", "not valid JSON"),
        (b'{"query":"{ hello }","variables":{"a":NaN}}', "not valid JSON"),
        (b'{"query":"{ hello }","variables":{"a":Infinity}}', "not valid JSON"),
        (b'\xff\xfe{"query":"{ hello }"}', "it is not UTF-8"),
        (b'{"query":"{ hello(name: \\"\xe9\\") }"}', "it is not UTF-8"),
        ('{"query":"{ hello }"}'.encode("utf-16"), "not valid JSON"),
        (b"[" * 5000 + b"]" * 5000, "not valid JSON"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "too deeply"),
        (b'{"query":"{ hello }","variables":{"a":1e999}}', "not valid JSON"),
        (b'{"query":"{ hello }","variables":{"a":' + b"9" * 5000 + b"}}", "not valid JSON"),
        (b'{"query":"{ hello }","variables":{"a":18446744073709551616}}', "64 bits"),
        (b'{"query":"{ hello }","query":"{ hello }"}', "stands twice"),
        (b'{"query":"{ hello }","variables":{"a":{"b":1, "b":2}}}', "stands twice"),
        (b'{"query":"\\ud800"}', "not valid JSON"),
        (b'{"query":"{ hello \x00 }"}', "not valid JSON"),
    ],
)
async def test_a_body_that_is_no_json_object_is_400(body: bytes, reason: str) -> None:
    async with Application().client() as client:
        response = await client.post("/graphql", content=body, headers={"content-type": "application/json"})

    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert error["extensions"] == {"code": "BAD_REQUEST"}
    assert reason in error["message"]


@pytest.mark.parametrize("name", ["query", "operationName", "variables", "extensions", "documentId"])
@pytest.mark.parametrize("value", [7, True, [], ["x"], "x", {"a": 1}])
async def test_a_parameter_of_the_wrong_type_is_422(name: str, value: Any) -> None:
    right = dict if name in ("variables", "extensions") else str
    if isinstance(value, right):
        return
    async with Application().client() as client:
        response = await client.post("/graphql", json={"query": "{ hello }", name: value})

    assert response.status_code == 422
    assert f"`{name}` must be" in response.json()["errors"][0]["message"]


async def test_a_request_without_a_query_is_422() -> None:
    async with Application().client() as client:
        for response in (
            await client.post("/graphql", json={"qeury": "{ hello }"}),
            await client.post("/graphql", json={"query": None}),
            await client.get("/graphql"),
            await client.get("/graphql", params={"query": ""}),
        ):
            assert response.status_code == 422


async def test_null_is_absent_and_unknown_members_are_ignored() -> None:
    request = {"query": "{ hello }", "variables": None, "operationName": None, "extensions": None, "id": 1}
    async with Application().client() as client:
        response = await client.post("/graphql", json=request)

    assert response.json()["data"] == {"hello": "hello world"}


@pytest.mark.parametrize(
    ("query_string", "status"),
    [
        ("query=%ff", 400),
        ("query={hello}&query={hello}", 400),
        ("query={hello}&variables=x", 400),
        ("query={hello}&variables=[1]", 422),
        ("query={hello}&extensions=7", 422),
        ("&".join(f"a{n}=1" for n in range(30)), 400),
    ],
)
async def test_a_url_that_cannot_be_read_in_one_way_is_refused(query_string: str, status: int) -> None:
    async with Application().client() as client:
        response = await client.get(f"/graphql?{query_string}")

    assert response.status_code == status


async def test_a_name_twice_in_a_string_is_no_duplicate() -> None:
    body = b'{ "query": "{ hello(name: \\"a\\") }", "variables": {"a": "\\"a\\":1,\\"a\\":1", "b": {"a": 1}} }'

    assert from_json(body).variables == {"a": '"a":1,"a":1', "b": {"a": 1}}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: st.lists(children) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), children),
    max_leaves=20,
)
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "query": JSON | st.sampled_from(["{ hello }", "query($n: String) { hello(name: $n) }"]),
        "variables": JSON | st.dictionaries(st.just("n"), JSON),
        "operationName": JSON,
        "extensions": JSON | st.dictionaries(st.sampled_from(["persistedQuery", "cost", "explainCost"]), JSON),
        "documentId": JSON,
    },
)


@given(body=st.binary(max_size=200) | PARAMETERS.map(orjson.dumps) | JSON.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=300, deadline=None)
async def test_no_body_is_a_500(body: bytes) -> None:
    async with Application().client() as client:
        response = await client.post("/graphql", content=body, headers={"content-type": "application/json"})

    assert response.status_code in (200, 400, 422)
    answer = response.json()
    assert ("data" in answer) == (response.status_code == 200)
    assert not any(error["extensions"]["code"] == "INTERNAL_SERVER_ERROR" for error in answer.get("errors", []))


@given(value=PARAMETERS, indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
@settings(max_examples=300, deadline=None)
def test_the_form_of_the_json_does_not_matter(value: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    def outcome(body: bytes) -> Parameters | str:
        try:
            return from_json(body)
        except RequestError as error:
            return error.message

    assert outcome(orjson.dumps(value)) == outcome(json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode())


@given(raw=st.binary(max_size=100))
@settings(max_examples=300, deadline=None)
def test_no_url_is_a_bug(raw: bytes) -> None:
    with suppress(RequestError):
        from_query_string(raw)
