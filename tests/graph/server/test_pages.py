"""The page for browsers: its headers, its files, and who gets the demo tokens with it. `test_graphiql` uses it."""

import dataclasses
import html.parser
import json
from pathlib import Path

import graphql
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from graph.schema import schema
from graph.server import pages
from graph.server.app import create_app
from graph.server.pages import DemoAccount
from persistence.settings import Settings

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.anyio

ADA = DemoAccount("Ada", "ada@example.org", "ADMIN", "tst_ada_secret")
EVIL = DemoAccount("</script><script>alert(1)</script><!--", "e&v@example.org", "MEMBER", 'tst_"quoted"')

# No page asks the database, so there is none.
SETTINGS = Settings(database_url="postgresql://nobody@127.0.0.1:1/nothing", environment="production")

plain = create_app(SETTINGS)
demo = create_app(SETTINGS, [ADA, EVIL])
prefixed = Starlette(routes=[Mount("/tasks", demo)])  # as behind a proxy that takes the prefix off
below = create_app(dataclasses.replace(SETTINGS, root_path="/tasks"))  # as behind one that does not


def client(app: Starlette) -> httpx.AsyncClient:
    """What a browser on the same machine asks with."""
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers={"Accept": "text/html"})


class Elements(html.parser.HTMLParser):
    """The elements of a page as a browser would see them, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts.append(data)

    def addresses(self) -> list[str]:
        return [value for _, attrs in self.found for name in ("src", "href") if (value := attrs.get(name))]


@pytest.mark.parametrize("path", ["/schema.graphql/", "/livez/", "/static", "/metrics/", "/tasks"])
async def test_no_redirect_repeats_the_host_that_was_asked_for(path: str) -> None:
    async with client(plain) as http:
        response = await http.get(path, headers={"Host": "evil.example"})

    assert response.status_code == 404
    assert "Location" not in response.headers


@pytest.mark.parametrize("path", ["/tasks", "/tasks/", "/"])
async def test_the_root_leads_to_the_page_wherever_a_proxy_has_put_it(path: str) -> None:
    async with client(below) as http:
        response = await http.get(path)

    assert response.is_redirect
    assert response.next_request is not None
    assert response.next_request.url == f"http://127.0.0.1:8000{'/tasks' if path != '/' else ''}/graphql"


async def test_the_page_forbids_everything_it_does_not_need() -> None:
    async with client(plain) as http:
        response = await http.get("/graphql")

    policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Vary"] == "Accept"
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"


async def test_the_page_holds_no_account_unless_it_is_given_one() -> None:
    async with client(plain) as http:
        page = Elements((await http.get("/graphql")).text)

    assert page.scripts == ["{}"]


async def test_only_in_development_the_page_explains_what_an_operation_takes() -> None:
    async with client(create_app(dataclasses.replace(SETTINGS, environment="development"))) as http:
        page = Elements((await http.get("/graphql")).text)

    assert page.scripts == ['{"explain": true}']


async def test_an_account_cannot_write_markup_into_the_page() -> None:
    async with client(plain) as http:
        without = Elements((await http.get("/graphql")).text)
    async with client(demo) as http:
        page = Elements((await http.get("/graphql")).text)

    assert page.found == without.found
    [block] = page.scripts
    assert json.loads(block)["accounts"][1] == {
        "name": EVIL.name,
        "email": EVIL.email,
        "role": EVIL.role,
        "token": EVIL.token,
    }


async def test_a_page_with_tokens_is_not_stored() -> None:
    async with client(demo) as http:
        response = await http.get("/graphql")

    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8000",
        "127.1.2.3:8000",
        "localhost",
        "localhost:8000",
        "LOCALHOST:1",
        "tasks.localhost",
        "a.b.localhost:8000",
        "[::1]",
        "[::1]:8000",
    ],
)
async def test_the_page_holds_the_demo_accounts_under_a_name_of_this_machine(host: str) -> None:
    async with client(demo) as http:
        page = Elements((await http.get("/graphql", headers={"Host": host})).text)

    assert [account["token"] for account in json.loads(page.scripts[0])["accounts"]] == [ADA.token, EVIL.token]


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example",
        "rebound.example:8000",
        "localhost.rebound.example:8000",
        "127.0.0.1.rebound.example",
        "localhost.",
        "a{b.rebound.example:8000",  # Chromium and its like ask for such names, and Starlette cannot read them
        'a"b.rebound.example:8000',
        "127.0.0.1@rebound.example:8000",
        "rebound.example:8000, localhost",
        "192.168.0.7:8000",
        "[::2]:8000",
        "",
    ],
)
async def test_a_site_whose_name_was_rebound_to_this_machine_gets_no_token(host: str) -> None:
    async with client(demo) as http:
        response = await http.get("/graphql", headers={"Host": host, "X-Forwarded-Host": "localhost"})

    assert Elements(response.text).scripts == ["{}"]
    assert ADA.token not in response.text


def test_a_token_does_not_show_in_the_representation_of_an_account() -> None:
    assert ADA.token not in repr(ADA)


@pytest.mark.parametrize("path", ["/graphql", "/graphql/"])
@pytest.mark.parametrize(("server", "prefix"), [(demo, ""), (prefixed, "/tasks"), (below, "/tasks"), (below, "")])
async def test_every_file_the_page_names_is_here(server: Starlette, prefix: str, path: str) -> None:
    async with client(server) as http:
        response = await http.get(prefix + path)
        page = Elements(response.text)
        assert len(page.addresses()) >= 3
        for address in page.addresses():
            url = response.url.join(address)
            assert url.path.startswith(f"{prefix}/static/graphiql/")
            assert (await http.get(url)).status_code == 200


@pytest.mark.parametrize(("server", "prefix"), [(demo, ""), (prefixed, "/tasks"), (below, "/tasks"), (below, "")])
async def test_the_root_leads_to_the_page(server: Starlette, prefix: str) -> None:
    async with client(server) as http:
        response = await http.get(f"{prefix}/", follow_redirects=True)

    assert response.url.path == f"{prefix}/graphql"
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/graphql", "/graphql/", "/tasks/graphql", "/tasks/graphql/"])
async def test_the_api_answers_with_and_without_a_slash_and_the_path_of_the_proxy(path: str) -> None:
    async with client(below) as http:
        response = await http.post(path, json={"query": "{ __typename }"}, headers={"Accept": "*/*"})

    assert response.json()["data"] == {"__typename": "Query"}


async def test_who_refuses_gzip_gets_a_file_as_it_is() -> None:
    async with client(plain) as http:
        icon = await http.get("/static/graphiql/favicon.svg", headers={"Accept-Encoding": "gzip;q=0, br"})

    assert "Content-Encoding" not in icon.headers


async def test_the_only_scripts_are_files() -> None:
    async with client(plain) as http:
        page = Elements((await http.get("/graphql")).text)

    assert [attrs for tag, attrs in page.found if tag == "script"]
    for tag, attrs in page.found:
        assert tag != "script" or attrs.get("src") or attrs["type"] == "application/json"
        assert not [name for name in attrs if name.startswith("on") or name == "style"]


async def test_hashed_files_are_cached_for_good_and_compressed_for_who_can_read_it() -> None:
    async with client(plain) as http:
        page = Elements((await http.get("/graphql")).text)
        [script] = [attrs["src"] for tag, attrs in page.found if tag == "script" and attrs.get("src")]
        assert script
        small = await http.get(script, headers={"Accept-Encoding": "gzip"})
        large = await http.get(script, headers={"Accept-Encoding": "identity"})

    assert small.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert small.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert small.headers["Vary"] == "Accept-Encoding"
    assert small.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in large.headers
    assert small.content == large.content
    assert int(small.headers["Content-Length"]) < int(large.headers["Content-Length"]) / 2


async def test_the_icon_is_ours_and_may_change() -> None:
    async with client(plain) as http:
        icon = await http.get("/static/graphiql/favicon.svg")

    assert icon.headers["Content-Type"] == "image/svg+xml"
    assert "immutable" not in icon.headers["Cache-Control"]


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/graphiql",
        "/static/graphiql/nothing.js",
        "/static/graphiql/index.html",
        "/static/../pages.py",
        "/static/%2e%2e/pages.py",
        "/static/graphiql/%2e%2e/%2e%2e/pages.py",
        "/static//etc/passwd",
        "/static/graphiql/favicon.svg%00",
    ],
)
async def test_nothing_else_is_served(path: str) -> None:
    async with client(plain) as http:
        response = await http.get(path)

    assert response.status_code == 404


async def test_a_file_is_only_read() -> None:
    async with client(plain) as http:
        head = await http.head("/static/graphiql/favicon.svg")
        post = await http.post("/static/graphiql/favicon.svg")

    assert head.status_code == 200
    assert post.status_code == 405


def test_no_built_file_is_too_large_for_a_reader_of_the_repository() -> None:
    files = [path for path in pages.STATIC.rglob("*") if path.is_file()]

    assert files
    assert max(path.stat().st_size for path in files) < 1_000_000


def test_no_style_sheet_loads_from_elsewhere() -> None:
    sheets = [path.read_text("utf-8") for path in pages.STATIC.rglob("*.css")]

    assert sheets
    assert not [sheet for sheet in sheets if "url(http" in sheet or "url(//" in sheet or "@import" in sheet]


@pytest.mark.parametrize("example", sorted((ROOT / "web/src/examples").glob("*.graphql")), ids=lambda path: path.stem)
def test_an_example_fits_the_schema_and_is_in_the_built_page(example: Path) -> None:
    text = example.read_text("utf-8")
    scripts = [path.read_text("utf-8") for path in pages.STATIC.rglob("index-*.js")]

    assert graphql.validate(schema._schema, graphql.parse(text)) == []
    assert [script for script in scripts if text in script]
