"""Persisted documents: by identifier, by Apollo's protocol, and from a manifest."""

import json
from hashlib import md5, sha1, sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from graph.transport.parameters import Parameters
from graph.transport.persisted import ManifestError, PersistedDocuments, build_manifest, load_manifest
from tests.execution.http_schema import Application, schema

pytestmark = pytest.mark.anyio

QUERY = "{ hello }"
HASH = sha256(QUERY.encode()).hexdigest()


def automatic(hexadecimal: Any = HASH, version: Any = 1) -> dict[str, Any]:
    return {"persistedQuery": {"version": version, "sha256Hash": hexadecimal}}


async def post(application: Application, **parameters: Any) -> httpx.Response:
    async with application.client() as client:
        return await client.post("/graphql", json=parameters)


def error(response: httpx.Response) -> tuple[int, str, str]:
    (found,) = response.json()["errors"]
    return response.status_code, found["extensions"]["code"], found["message"]


async def test_apollo_clients_send_the_text_once() -> None:
    application = Application()

    unknown = await post(application, extensions=automatic())
    added = await post(application, query=QUERY, extensions=automatic())
    known = await post(application, extensions=automatic())

    assert error(unknown) == (400, "PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound")
    assert added.json()["data"] == known.json()["data"] == {"hello": "hello world"}
    assert application.state.records[-1].document_id == HASH


async def test_automatic_documents_work_by_get() -> None:
    application = Application()
    await post(application, query=QUERY, extensions=automatic())
    async with application.client() as client:
        response = await client.get("/graphql", params={"extensions": json.dumps(automatic())})

    assert response.json()["data"] == {"hello": "hello world"}


async def test_a_document_is_found_by_its_document_id() -> None:
    application = Application()

    unknown = await post(application, documentId=f"sha256:{HASH}")
    added = await post(application, query=QUERY, documentId=f"sha256:{HASH}")
    known = await post(application, documentId=f"sha256:{HASH}")

    assert error(unknown)[:2] == (400, "PERSISTED_QUERY_NOT_FOUND")
    assert added.json()["data"] == known.json()["data"] == {"hello": "hello world"}


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"query": "{ __typename }", "extensions": automatic()}, 400),
        ({"query": "{ __typename }", "documentId": f"sha256:{HASH}"}, 400),
        ({"query": QUERY, "documentId": "custom"}, 400),
        ({"extensions": automatic(version=2)}, 400),
        ({"extensions": automatic(version="1")}, 422),
        ({"extensions": automatic(version=True)}, 422),
        ({"extensions": automatic(hexadecimal=7)}, 422),
        ({"extensions": automatic(hexadecimal=HASH.upper())}, 422),
        ({"extensions": {"persistedQuery": "x"}}, 422),
        ({"extensions": {"persistedQuery": {}}}, 422),
        ({"documentId": "sha256:abc"}, 400),
        ({"documentId": f"md5:{HASH}"}, 400),
        ({"documentId": ""}, 400),
    ],
)
async def test_an_identifier_that_does_not_fit_is_refused(parameters: dict[str, Any], status: int) -> None:
    application = Application()

    response = await post(application, **parameters)

    assert response.status_code == status
    assert len(application.options.persisted) == 0


async def test_an_invalid_document_is_not_kept() -> None:
    application = Application()
    text = "{ nothing }"

    response = await post(application, query=text, extensions=automatic(sha256(text.encode()).hexdigest()))

    assert error(response)[1] == "GRAPHQL_VALIDATION_FAILED"
    assert len(application.options.persisted) == 0


def test_the_store_is_bounded_by_number_and_size() -> None:
    by_number = PersistedDocuments(max_count=3)
    by_size = PersistedDocuments(max_bytes=100)
    for n in range(20):
        for store in (by_number, by_size):
            store.add(str(n), "x" * 30)
    by_size.add("large", "x" * 101)

    assert (len(by_number), len(by_size)) == (3, 3)


def test_a_document_in_use_stays() -> None:
    store = PersistedDocuments(max_count=2)
    store.add("a" * 64, "1")
    store.add("b" * 64, "2")
    store.resolve(Parameters(document_id=f"sha256:{'a' * 64}"))
    store.add("c" * 64, "3")

    assert store.resolve(Parameters(document_id=f"sha256:{'a' * 64}"))[0] == "1"


IDENTIFIERS = [HASH, sha1(QUERY.encode()).hexdigest(), md5(QUERY.encode()).hexdigest(), "x-app:7", "Hello", "7f:a"]


@pytest.mark.parametrize("trusted_only", [True, False])
@pytest.mark.parametrize("written", ["", "sha256:"])
@pytest.mark.parametrize("sent", ["", "sha256:"])
@pytest.mark.parametrize("identifier", IDENTIFIERS)
async def test_an_identifier_of_the_manifest_is_known_in_both_places_with_and_without_the_prefix(
    identifier: str, sent: str, written: str, trusted_only: bool, tmp_path: Path
) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({written + identifier: QUERY}))
    application = Application(persisted=PersistedDocuments(load_manifest(path), trusted_only=trusted_only))

    for request in ({"documentId": sent + identifier}, {"extensions": automatic(sent + identifier)}):
        for text in ({}, {"query": QUERY}, {"query": ""}, {"query": None}):
            assert (await post(application, **request, **text)).json()["data"] == {"hello": "hello world"}
        assert (await post(application, **request, query="{ __typename }")).status_code == (
            403 if trusted_only else 400
        )


async def test_apollo_clients_may_write_the_prefix_into_the_hash() -> None:
    application = Application()

    unknown = await post(application, extensions=automatic(f"sha256:{HASH}"))
    await post(application, query=QUERY, extensions=automatic(f"sha256:{HASH}"))
    known = await post(application, documentId=HASH)

    assert error(unknown)[1] == "PERSISTED_QUERY_NOT_FOUND"
    assert known.json()["data"] == {"hello": "hello world"}
    assert error(await post(application, extensions=automatic(f"sha256:sha256:{HASH}")))[0] == 422


async def test_an_identifier_that_the_manifest_lacks_is_not_found_whatever_its_hash() -> None:
    application = Application(persisted=PersistedDocuments({HASH: QUERY}, trusted_only=True))

    for identifier in IDENTIFIERS[1:]:
        answer = await post(application, extensions=automatic(identifier))
        assert error(answer)[:2] == (400, "PERSISTED_QUERY_NOT_FOUND")


async def test_only_trusted_documents_are_executed_when_that_is_wanted() -> None:
    text = 'query Mine { hello(name: "me") }'
    application = Application(persisted=PersistedDocuments({"mine": text}, trusted_only=True))
    digest = sha256(text.encode()).hexdigest()

    for trusted in (
        {"documentId": "mine"},
        {"documentId": f"sha256:{digest}"},
        {"extensions": automatic(digest)},
        {"query": text},
        {"query": text, "extensions": automatic(digest)},
    ):
        response = await post(application, **trusted)
        assert response.json()["data"] == {"hello": "hello me"}
    for untrusted in (
        {"query": QUERY},
        {"query": QUERY, "extensions": automatic()},
        {"query": QUERY, "documentId": "mine"},
        {"query": "{ __schema { types { name } } }"},
    ):
        assert error(await post(application, **untrusted))[:2] == (403, "DOCUMENT_NOT_TRUSTED")
    assert error(await post(application, extensions=automatic()))[1] == "PERSISTED_QUERY_NOT_FOUND"
    assert len(application.options.persisted) == 0


async def test_automatic_documents_can_be_switched_off() -> None:
    application = Application(persisted=PersistedDocuments(automatic=False))

    assert error(await post(application, extensions=automatic()))[1:] == (
        "PERSISTED_QUERY_NOT_SUPPORTED",
        "PersistedQueryNotSupported",
    )


@pytest.mark.parametrize(
    "manifest",
    [
        {"abc": QUERY},
        {
            "format": "apollo-persisted-query-manifest",
            "version": 1,
            "operations": [{"id": "abc", "name": "Q", "type": "query", "body": QUERY}],
        },
        {"sha256:abc": QUERY},
    ],
)
def test_both_forms_of_manifests_are_read(manifest: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))

    assert load_manifest(path) == {"abc": QUERY}


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        '{"a": 7}',
        '{"a": "{"}',
        '{"format":"apollo-persisted-query-manifest","version":2,"operations":[]}',
        '{"format":"apollo-persisted-query-manifest","version":1,"operations":[{"id":"a"}]}',
    ],
)
def test_a_wrong_manifest_is_named_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)

    with pytest.raises(ManifestError) as caught:
        load_manifest(path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="absent"):
        load_manifest(tmp_path / "absent.json")


def test_a_manifest_is_built_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.graphql").write_text("query A { item(id: 1) { ...Title } } mutation B { write }")
    (tmp_path / "deep" / "fragments.gql").write_text(
        "fragment Title on Item { title ...Id } fragment Id on Item { id } fragment Unused on Item { id }"
    )

    manifest = build_manifest(tmp_path, schema._schema)

    assert [(entry["name"], entry["type"]) for entry in manifest["operations"]] == [("A", "query"), ("B", "mutation")]
    first = manifest["operations"][0]
    assert first["id"] == sha256(first["body"].encode()).hexdigest()
    assert "Title" in first["body"]
    assert "Id" in first["body"]
    assert "Unused" not in first["body"]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    assert load_manifest(path)[first["id"]] == first["body"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{ hello }", "needs a name"),
        ("query A { hello", "Syntax Error"),
        ("query A { ...Missing }", "'Missing' is not defined"),
        ("query A { nothing }", "Cannot query field"),
        ("query A { hello } query A { hello }", "also defined"),
    ],
)
def test_a_folder_that_makes_no_manifest_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "a.graphql").write_text(text)

    with pytest.raises(ManifestError, match=problem):
        build_manifest(tmp_path, schema._schema)
