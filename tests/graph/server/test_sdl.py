"""The schema at `/schema.graphql`: what code generators fetch, and only where introspection is answered."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from graphql import build_schema

from persistence.settings import ROOT, Settings
from tests.graph.application import application

pytestmark = pytest.mark.anyio

URL = "/schema.graphql"


async def test_the_schema_is_the_committed_snapshot_and_needs_no_token(settings: Settings) -> None:
    async with application(settings) as http:
        answer = await http.get(URL, headers={"Accept-Encoding": "identity"})
        head = await http.head(URL, headers={"Accept-Encoding": "identity"})

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert answer.text == (ROOT / "schema.graphql").read_text()
    assert build_schema(answer.text).type_map["Task"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("gzip;q=0", False), ("br", False), ("", False)],
)
async def test_the_schema_is_compressed_for_those_who_take_it(
    settings: Settings, accepted: str, compressed: bool
) -> None:
    async with (
        application(settings) as http,
        http.stream("GET", URL, headers={"Accept-Encoding": accepted}) as answer,
    ):
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])

    assert (answer.headers.get("content-encoding") == "gzip") is compressed
    assert answer.headers["vary"] == "Accept-Encoding"
    text = gzip.decompress(raw) if compressed else raw
    assert text == (ROOT / "schema.graphql").read_bytes()


async def test_who_has_the_schema_already_is_told_so(settings: Settings) -> None:
    async with application(settings) as http:
        first = await http.get(URL)
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "public, no-cache"
        for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*", f'W/"a,b",{tag}'):
            again = await http.get(URL, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
            assert again.headers["cache-control"] == first.headers["cache-control"]
            assert again.headers["vary"] == first.headers["vary"]
        for other in ('"other"', "", tag.strip('W/"'), "W/", f"{tag[:-2]}"):
            assert (await http.get(URL, headers={"If-None-Match": other})).status_code == 200


async def test_the_schema_is_nowhere_when_introspection_is_not_answered(settings: Settings, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"time": "query Time { viewer { id } }"}))
    for closed in (replace(settings, introspection=False), replace(settings, trusted_documents=manifest)):
        async with application(closed) as http:
            for method in ("GET", "HEAD"):
                assert (await http.request(method, URL)).status_code == 404


async def test_the_schema_is_only_read(settings: Settings) -> None:
    async with application(settings) as http:
        assert (await http.post(URL)).status_code == 405


async def test_the_schema_is_found_below_the_path_of_a_proxy(settings: Settings) -> None:
    async with application(replace(settings, root_path="/tasks")) as http:
        assert (await http.get(f"/tasks{URL}")).text == (await http.get(URL)).text
