"""The page for browsers: its headers, its files, and GraphiQL itself in a headless Chromium."""

import html.parser
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import graphql
import httpx
import pytest
import strawberry
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL

from graph import pages
from graph.pages import DemoAccount, graphiql, static_routes
from tests.graph.browser import CHROMIUM, Page, browse

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.anyio

ADA = DemoAccount("Ada", "ada@example.org", "tst_ada_secret")
EVIL = DemoAccount("</script><script>alert(1)</script><!--", "e&v@example.org", 'tst_"quoted"')


# A small API with the names that the examples of the page use, so that these tests are about the page alone.


@strawberry.enum
class TaskStatus(StrEnum):
    TODO = "todo"
    IN_PROGRESS = "in_progress"


@strawberry.enum
class Nulls(StrEnum):
    FIRST = "first"
    LAST = "last"


@strawberry.enum
class Direction(StrEnum):
    ASC = "asc"
    DESC = "desc"


@strawberry.enum
class TaskOrderField(StrEnum):
    DUE_AT = "due_at"


@strawberry.input
class StatusFilter:
    in_: list[TaskStatus] | None = strawberry.field(default=None, name="in")


@strawberry.input
class TaskFilter:
    status: StatusFilter | None = None


@strawberry.input
class TaskOrder:
    field: TaskOrderField
    direction: Direction = Direction.ASC
    nulls: Nulls = Nulls.LAST


@strawberry.type
class Task:
    id: strawberry.ID
    title: str
    status: TaskStatus = TaskStatus.TODO
    priority: str = "HIGH"
    tags: list[str] = strawberry.field(default_factory=lambda: ["home"])
    due_at: str = "2027-01-01T08:00:00Z"
    overdue: bool = False


@strawberry.type
class PageInfo:
    has_next_page: bool = False
    end_cursor: str | None = None


@strawberry.type
class TaskConnection:
    nodes: list[Task]
    total_count: int = 1
    page_info: PageInfo = strawberry.field(default_factory=PageInfo)


@strawberry.type(description="Who asks.")
class Viewer:
    name: str
    email: str

    @strawberry.field
    def tasks(self, first: int, filter: TaskFilter, order_by: list[TaskOrder]) -> TaskConnection:
        return TaskConnection(nodes=[Task(id=strawberry.ID("1"), title="Water the plants")])


def bearer(info: strawberry.Info) -> str | None:
    connection = info.context.get("connection_params") or {}
    request = info.context["request"]
    token = connection.get("Authorization") or request.headers.get("Authorization")
    return str(token) if token else None


@strawberry.type
class Query:
    @strawberry.field
    def viewer(self, info: strawberry.Info) -> Viewer | None:
        return Viewer(name=ADA.name, email=ADA.email) if bearer(info) == f"Bearer {ADA.token}" else None


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def ticks(self, info: strawberry.Info) -> AsyncIterator[str]:
        yield f"as {bearer(info)}"


api = GraphQL[Any, Any](
    strawberry.Schema(Query, subscription=Subscription),
    graphql_ide=None,
    subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
)


class Endpoint:
    def __init__(self, *accounts: DemoAccount) -> None:
        self.accounts = accounts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            response: Response = graphiql(Request(scope), demo_accounts=self.accounts)
            await response(scope, receive, send)
        else:
            await api(scope, receive, send)


endpoint = Endpoint(ADA, EVIL)
app = Starlette(routes=[Route("/graphql", endpoint), WebSocketRoute("/graphql", endpoint), *static_routes()])
prefixed = Starlette(routes=[Mount("/tasks", app)])
plain = Starlette(routes=[Route("/graphql", graphiql), *static_routes()])


def client(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


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


async def test_an_account_cannot_write_markup_into_the_page() -> None:
    async with client(plain) as http:
        without = Elements((await http.get("/graphql")).text)
    async with client(app) as http:
        page = Elements((await http.get("/graphql")).text)

    assert page.found == without.found
    [block] = page.scripts
    assert json.loads(block)["accounts"][1] == {"name": EVIL.name, "email": EVIL.email, "token": EVIL.token}


async def test_a_page_with_tokens_is_not_stored() -> None:
    async with client(app) as http:
        response = await http.get("/graphql")

    assert response.headers["Cache-Control"] == "no-store"


def test_a_token_does_not_show_in_the_representation_of_an_account() -> None:
    assert ADA.token not in repr(ADA)


@pytest.mark.parametrize(("server", "prefix"), [(app, ""), (prefixed, "/tasks")])
async def test_every_file_the_page_names_is_here(server: Starlette, prefix: str) -> None:
    async with client(server) as http:
        page = Elements((await http.get(f"{prefix}/graphql")).text)
        assert len(page.addresses()) >= 3
        for address in page.addresses():
            assert address.startswith(f"{prefix}/static/graphiql/")
            assert (await http.get(address)).status_code == 200


async def test_the_only_scripts_are_files() -> None:
    async with client(plain) as http:
        page = Elements((await http.get("/graphql")).text)

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
def test_an_example_fits_the_schema(example: Path) -> None:
    snapshot = ROOT / "schema.graphql"
    if not snapshot.exists():
        pytest.skip("schema.graphql is not written yet")
    schema = graphql.build_schema(snapshot.read_text("utf-8"))

    assert graphql.validate(schema, graphql.parse(example.read_text("utf-8"))) == []


# In the browser


@pytest.fixture
def served() -> Iterator[str]:
    """The address of the page, served by uvicorn on a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="websockets-sansio", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/graphql"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    async with browse(tmp_path / "profile") as page:
        yield page


MODEL = "globalThis.__MONACO?.editor.getModels().find((model) => model.uri.path.endsWith('{}'))"
QUERY = MODEL.format("operation.graphql")
VARIABLES = MODEL.format("variables.json")
HEADERS = MODEL.format("request-headers.json")
RESPONSE = MODEL.format("response.json")
RUN = ".graphiql-execute-button"
TABS = "document.querySelectorAll('.graphiql-tab').length"


async def visit(page: Page, url: str) -> None:
    """Open the page and wait until its editors are there: before that, the buttons have nothing to act on."""
    await page.open(url)
    await page.until(f"{QUERY} && {VARIABLES} && {HEADERS} && {RESPONSE}")


async def headers(page: Page) -> Any:
    text = await page.evaluate(f"({HEADERS}).getValue()")
    return json.loads(text) if text else {}


async def run(page: Page) -> Any:
    await page.click(RUN)
    return json.loads(await page.until(f"({RESPONSE}).getValue()"))


async def act_as(page: Page, account: DemoAccount | None) -> None:
    await page.click("button.act-as")
    await page.click(f"[data-account='{account.email if account else ''}']")
    name = account.name if account else "Nobody"
    await page.until(f"document.querySelector('.act-as-name').textContent === {json.dumps(name)}")


def authorized(account: DemoAccount) -> dict[str, str]:
    return {"Authorization": f"Bearer {account.token}"}


async def test_the_example_runs_as_the_first_demo_account(page: Page, served: str) -> None:
    await visit(page, served)
    answer = await run(page)

    assert answer["data"]["viewer"]["name"] == ADA.name
    assert answer["data"]["viewer"]["tasks"]["nodes"][0]["title"] == "Water the plants"


async def test_nothing_leaves_the_origin_and_nothing_complains(page: Page, served: str) -> None:
    await visit(page, served)
    await run(page)
    for name in ("Documentation Explorer", "GraphiQL Explorer", "History"):
        await page.click(f"[aria-label='Show {name}']")
        await page.until(f"document.querySelector(`[aria-label='Hide {name}']`)")
    # Both language workers have answered once a wrong field and a wrong value are marked.
    await page.evaluate(f"({QUERY}).setValue('{{ wrong }}')")
    await page.until("globalThis.__MONACO.editor.getModelMarkers({owner: 'graphql'}).length")
    await page.evaluate(f"({VARIABLES}).setValue('{{')")
    await page.until("globalThis.__MONACO.editor.getModelMarkers({owner: 'json'}).length")
    await page.evaluate(f"({VARIABLES}).setValue('')")
    await page.evaluate(f"({QUERY}).setValue('{{viewer{{name}}}}')")
    await page.click("[aria-label^='Prettify']")
    await page.until(f"({QUERY}).getValue().includes('\\n')")

    assert page.hosts() == {httpx.URL(served).netloc.decode()}
    assert page.complaints == []
    assert len({url for url in page.requests if "worker" in url}) >= 2


async def test_a_field_is_suggested_while_typing(page: Page, served: str) -> None:
    await visit(page, served)
    await page.evaluate(f"({QUERY}).setValue('')")
    await page.click(".graphiql-query-editor .monaco-editor .view-lines")
    await page.type("{ v")
    await page.press(" ", "Space", 32, modifiers=2)

    assert "viewer" in await page.until("document.querySelector('.suggest-widget.visible .monaco-list-row')?.ariaLabel")


async def test_the_act_as_menu_writes_the_header(page: Page, served: str) -> None:
    await visit(page, served)
    assert await headers(page) == authorized(ADA)

    await act_as(page, EVIL)
    assert await headers(page) == authorized(EVIL)

    await act_as(page, None)
    assert await headers(page) == {}
    assert (await run(page))["data"] == {"viewer": None}
    assert page.complaints == []


async def test_the_menu_keeps_the_other_headers(page: Page, served: str) -> None:
    await visit(page, served)
    text = json.dumps({"authorization": "Bearer mine", "X-Trace": "1"})
    await page.evaluate(f"({HEADERS}).setValue({json.dumps(text)})")
    await page.until("document.querySelector('.act-as-name').textContent === 'Own token'")
    await act_as(page, ADA)

    assert await headers(page) == {**authorized(ADA), "X-Trace": "1"}


async def test_the_choice_outlives_a_reload_but_no_token_is_stored(page: Page, served: str) -> None:
    await visit(page, served)
    await act_as(page, EVIL)
    await run(page)
    await page.click("[aria-label='New tab']")
    await page.until(f"{TABS} === 3")
    await page.until("localStorage['taskstore:graphiql:tabState']?.includes('untitled')")
    stored = await page.evaluate("JSON.stringify(localStorage)")
    await visit(page, served)

    assert "MyTasks" in stored
    assert "Bearer" not in stored
    assert await headers(page) == authorized(EVIL)


async def test_every_tab_and_the_history_act_as_the_chosen_account(page: Page, served: str) -> None:
    await visit(page, served)
    await run(page)
    await act_as(page, EVIL)
    chosen = f"({HEADERS}).getValue().includes('quoted')"

    await page.click("#graphiql-session-tab-1")
    await page.until(f"({QUERY}).getValue().includes('CreateTask') && {chosen}")
    await page.click("[aria-label='New tab']")
    await page.until(f"{TABS} === 3 && {chosen}")
    await page.click("[aria-label='Show History']")
    await page.click("button.graphiql-history-item-label")
    await page.until(f"({QUERY}).getValue().includes('MyTasks') && {chosen}")

    await act_as(page, None)
    await page.click("#graphiql-session-tab-0")
    await page.until("document.querySelector('.graphiql-tab-active #graphiql-session-tab-0')")
    await page.until(f"({HEADERS}).getValue() === ''")
    assert page.complaints == []


async def test_a_subscription_carries_the_header_over_the_same_address(page: Page, served: str) -> None:
    await visit(page, served)
    await page.evaluate(f"({QUERY}).setValue('subscription Ticks {{ ticks }}')")
    await page.until("document.querySelector('#graphiql-session-tab-0').textContent === 'Ticks'")

    assert await run(page) == {"data": {"ticks": f"as Bearer {ADA.token}"}}
    assert page.sockets == [served.replace("http:", "ws:")]
    assert page.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_follows_the_colours_of_the_system(page: Page, served: str, scheme: str) -> None:
    await page.prefer(scheme)
    await page.open(served)
    colour = await page.until("getComputedStyle(document.querySelector('.graphiql-container')).backgroundColor")

    assert (colour == "rgb(255, 255, 255)") == (scheme == "light")


async def test_without_demo_accounts_there_is_no_menu(page: Page, served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "accounts", ())
    await visit(page, served)

    assert "signIn" in await page.evaluate(f"({QUERY}).getValue()")
    assert await page.evaluate("document.querySelector('button.act-as')") is None
    assert await headers(page) == {}
