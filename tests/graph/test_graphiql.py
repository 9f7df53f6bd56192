"""GraphiQL at the address of the real application, with the demo data, in a headless Chromium."""

import asyncio
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import pytest
import uvicorn

from graph.server.app import create_app
from graph.server.pages import DemoAccount
from graph.server.sockets import WebSocketProtocol
from persistence import migrations
from persistence.connections.engine import create_engine
from persistence.seed import PASSWORD, TOKENS_KEPT, seed
from persistence.settings import Settings
from tests.graph.browser import CHROMIUM, Page, chromium, tab

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("processes")]

EVIL = DemoAccount("</script><script>alert(1)</script><!--", "e&v@example.org", "MEMBER", 'tst_"quoted"')


@dataclass
class Site:
    """A server in demo mode. Its page offers whoever is in `accounts`."""

    settings: Settings
    url: str = ""
    accounts: list[DemoAccount] = field(default_factory=list)

    async def renew(self) -> None:
        """Make the demo data where it is missing, and so many new tokens, as each start does, that the old ones end."""
        engine = create_engine(self.settings)
        try:
            data = [await seed(engine) for _ in range(TOKENS_KEPT)][-1]
        finally:
            await engine.dispose()
        self.accounts[:] = [
            DemoAccount(account.name, account.email, account.role.name, account.token) for account in data.accounts
        ]


@pytest.fixture(scope="module")
def served(new_database: Callable[[], str]) -> Iterator[Site]:
    """The application on a database of its own, served by uvicorn on a free port."""
    site = Site(Settings(database_url=new_database(), token_cache_seconds=0.0))
    migrations.upgrade(str(site.settings.database_url))
    asyncio.run(site.renew())
    app = create_app(site.settings, site.accounts)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        site.url = f"http://127.0.0.1:{listener.getsockname()[1]}/graphql"
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws=WebSocketProtocol))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield site
        server.should_exit = True
        thread.join()


@pytest.fixture
def site(served: Site) -> Iterator[Site]:
    yield served
    served.accounts[:] = [account for account in served.accounts if account is not EVIL]


@pytest.fixture(scope="module")
def debugger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    with chromium(tmp_path_factory.mktemp("chromium")) as debugger:
        yield debugger


@pytest.fixture
async def page(debugger: str) -> AsyncIterator[Page]:
    async with tab(debugger) as page:
        yield page


MODEL = "globalThis.__MONACO?.editor.getModels().find((model) => model.uri.path.endsWith('{}'))"
QUERY = MODEL.format("operation.graphql")
VARIABLES = MODEL.format("variables.json")
HEADERS = MODEL.format("request-headers.json")
RESPONSE = MODEL.format("response.json")
RUN = ".graphiql-execute-button"
EXPLAIN = "[aria-label^=Explain]"
TABS = "document.querySelectorAll('.graphiql-tab').length"


async def visit(page: Page, url: str) -> None:
    """Open the page and wait until its editors are there: before that, the buttons have nothing to act on."""
    await page.open(url)
    await page.until(f"{QUERY} && {VARIABLES} && {HEADERS} && {RESPONSE}")


async def show(page: Page, tab: int, operation: str) -> None:
    await page.click(f"#graphiql-session-tab-{tab}")
    await page.until(f"({QUERY}).getValue().includes('{operation}')")


async def headers(page: Page) -> Any:
    text = await page.evaluate(f"({HEADERS}).getValue()")
    return json.loads(text) if text else {}


async def run(page: Page) -> Any:
    """What the response pane shows after the first press of the button in an empty tab."""
    await page.click(RUN)
    return json.loads(await page.until(f"({RESPONSE}).getValue()"))


async def act_as(page: Page, account: DemoAccount | None) -> None:
    await page.click("button.act-as")
    await page.click(f"[data-account='{account.email if account else ''}']")
    name = account.name if account else "Nobody"
    await page.until(f"document.querySelector('.act-as-name').textContent === {json.dumps(name)}")


def authorized(account: DemoAccount) -> dict[str, str]:
    return {"Authorization": f"Bearer {account.token}"}


async def test_the_first_example_answers_with_the_tasks_of_the_first_demo_account(page: Page, site: Site) -> None:
    await visit(page, site.url)
    answer = await run(page)

    viewer = answer["data"]["viewer"]
    assert viewer["name"] == site.accounts[0].name
    assert viewer["tasks"]["totalCount"] > len(viewer["tasks"]["nodes"])
    assert viewer["tasks"]["pageInfo"]["hasNextPage"]
    assert {task["overdue"] for task in viewer["tasks"]["nodes"]} == {True, False}
    assert "errors" not in answer


async def test_the_second_example_makes_a_task(page: Page, site: Site) -> None:
    await visit(page, site.url)
    await show(page, 1, "CreateTask")
    created = (await run(page))["data"]["createTask"]

    assert created["errors"] == []
    assert created["task"]["dueAt"] == "2027-01-01T08:00:00Z"


async def test_the_third_example_follows_the_clock_as_the_account_over_the_same_address(page: Page, site: Site) -> None:
    await visit(page, site.url)
    await show(page, 2, "ServerTime")
    first = await run(page)
    await page.until(f"({RESPONSE}).getValue() !== {json.dumps(json.dumps(first, indent=2))}")
    await page.click(RUN)

    assert datetime.fromisoformat(first["data"]["serverTime"])
    assert page.sockets == [site.url.replace("http:", "ws:")]
    assert page.complaints == []


async def test_nothing_leaves_the_origin_and_nothing_complains(page: Page, site: Site) -> None:
    await visit(page, site.url)
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

    assert page.hosts() == {httpx.URL(site.url).netloc.decode()}
    assert page.complaints == []
    assert len({url for url in page.requests if "worker" in url}) >= 2


async def test_a_field_is_suggested_while_typing(page: Page, site: Site) -> None:
    await visit(page, site.url)
    await page.evaluate(f"({QUERY}).setValue('')")
    await page.click(".graphiql-query-editor .monaco-editor .view-lines")
    await page.type("{ v")
    await page.press(" ", "Space", 32, modifiers=2)

    assert "viewer" in await page.until("document.querySelector('.suggest-widget.visible .monaco-list-row')?.ariaLabel")


async def test_the_act_as_menu_writes_the_header(page: Page, site: Site) -> None:
    site.accounts.append(EVIL)
    await visit(page, site.url)
    assert await headers(page) == authorized(site.accounts[0])

    await act_as(page, EVIL)
    assert await headers(page) == authorized(EVIL)

    await act_as(page, None)
    assert await headers(page) == {}
    [error] = (await run(page))["errors"]
    assert error["extensions"]["code"] == "UNAUTHENTICATED"
    assert [complaint for complaint in page.complaints if "status of 401" not in complaint] == []


async def test_the_menu_keeps_the_other_headers(page: Page, site: Site) -> None:
    await visit(page, site.url)
    text = json.dumps({"authorization": "Bearer mine", "X-Trace": "1"})
    await page.evaluate(f"({HEADERS}).setValue({json.dumps(text)})")
    await page.until("document.querySelector('.act-as-name').textContent === 'Own token'")
    await act_as(page, site.accounts[1])

    assert await headers(page) == {**authorized(site.accounts[1]), "X-Trace": "1"}


async def test_the_choice_outlives_a_reload_but_no_token_is_stored(page: Page, site: Site) -> None:
    await visit(page, site.url)
    await act_as(page, site.accounts[1])
    await run(page)
    await page.click("[aria-label='New tab']")
    await page.until(f"{TABS} === 4")
    await page.until("localStorage['taskstore:graphiql:tabState']?.includes('untitled')")
    stored = await page.evaluate("JSON.stringify(localStorage)")
    await visit(page, site.url)

    assert "MyTasks" in stored
    assert "Bearer" not in stored
    assert await headers(page) == authorized(site.accounts[1])


async def test_every_tab_and_the_history_act_as_the_chosen_account(page: Page, site: Site) -> None:
    await visit(page, site.url)
    await run(page)
    await act_as(page, site.accounts[1])
    chosen = f"({HEADERS}).getValue().includes({json.dumps(site.accounts[1].token)})"

    await page.click("#graphiql-session-tab-1")
    await page.until(f"({QUERY}).getValue().includes('CreateTask') && {chosen}")
    await page.click("[aria-label='New tab']")
    await page.until(f"{TABS} === 4 && {chosen}")
    await page.click("[aria-label='Show History']")
    await page.click("button.graphiql-history-item-label")
    await page.until(f"({QUERY}).getValue().includes('MyTasks') && {chosen}")

    await act_as(page, None)
    await page.click("#graphiql-session-tab-0")
    await page.until("document.querySelector('.graphiql-tab-active #graphiql-session-tab-0')")
    await page.until(f"({HEADERS}).getValue() === ''")
    assert page.complaints == []


async def test_a_page_whose_tokens_have_ended_says_so_and_works_after_a_reload(page: Page, site: Site) -> None:
    await visit(page, site.url)
    await act_as(page, site.accounts[1])
    await site.renew()
    refused = await run(page)
    await visit(page, site.url)
    answer = await run(page)

    assert "Reload the page" in refused["errors"][0]["message"]
    assert answer["data"]["viewer"]["name"] == site.accounts[1].name


async def test_a_subscription_with_a_token_that_has_ended_is_told_the_same(page: Page, site: Site) -> None:
    await visit(page, site.url)
    await site.renew()
    await show(page, 2, "ServerTime")

    assert "Reload the page" in (await run(page))["errors"][0]["message"]


async def test_a_wrong_token_of_ones_own_is_refused_in_the_words_of_the_server(page: Page, site: Site) -> None:
    await visit(page, site.url)
    text = json.dumps({"Authorization": "Bearer mine"})
    await page.evaluate(f"({HEADERS}).setValue({json.dumps(text)})")
    await page.until("document.querySelector('.act-as-name').textContent === 'Own token'")

    assert (await run(page))["errors"] == [
        {"message": "The token is unknown, expired or revoked.", "extensions": {"code": "UNAUTHENTICATED"}}
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_follows_the_colours_of_the_system(page: Page, site: Site, scheme: str) -> None:
    await page.prefer(scheme)
    await page.open(site.url)
    colour = await page.until("getComputedStyle(document.querySelector('.graphiql-container')).backgroundColor")

    assert (colour == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.fixture
def site_without_demo(site: Site) -> Iterator[Site]:
    accounts, site.accounts[:] = [*site.accounts], []
    yield site
    site.accounts[:] = accounts


async def fill_in(page: Page, **values: str) -> None:
    for name, value in values.items():
        await page.click(f".sign-in-form input[name={name}]")
        await page.evaluate(f"document.querySelector('.sign-in-form input[name={name}]').select()")
        await page.type(value)
    await page.click(".sign-in-form button")


async def test_without_demo_accounts_a_visitor_signs_in_by_a_form(page: Page, site_without_demo: Site) -> None:
    await visit(page, site_without_demo.url)
    assert "signIn" in await page.evaluate(f"({QUERY}).getValue()")
    assert await headers(page) == {}

    await page.click("button.act-as")
    await page.until("document.querySelector('.sign-in-form')")
    await fill_in(page, email="test@example.com", password="this is not it")
    said = await page.until("document.querySelector('.sign-in-problem')?.textContent")
    await fill_in(page, email="test@example.com", password=PASSWORD)
    await page.until("document.querySelector('.act-as-name').textContent === 'Tess Test'")
    await show(page, 1, "MyTasks")
    answer = await run(page)
    stored = await page.evaluate("JSON.stringify(localStorage)")

    assert said == "The address or the password is wrong."
    assert (await headers(page))["Authorization"].startswith("Bearer tsk_")
    assert answer["data"]["viewer"]["name"] == "Tess Test"
    assert "tsk_" not in stored
    assert PASSWORD not in stored
    assert page.complaints == []


async def test_the_menu_shows_names_addresses_and_roles_in_full(page: Page, site: Site) -> None:
    await visit(page, site.url)
    await page.click("button.act-as")
    await page.until("document.querySelector('[data-account]')")
    items = "[...document.querySelectorAll('[data-account]')]"
    texts = json.loads(await page.evaluate(f"JSON.stringify({items}.map((item) => item.innerText.split('\\n')))"))
    cut = await page.evaluate(
        f"{items}.flatMap((item) => [...item.querySelectorAll('span')])"
        ".filter((part) => part.scrollWidth > part.offsetWidth + 1).length"
    )

    assert texts[:2] == [[account.name, account.email, account.role] for account in site.accounts]
    assert cut == 0


async def test_the_headers_are_closed_at_first(page: Page, site: Site) -> None:
    await visit(page, site.url)
    inside = await page.evaluate(
        "[...document.querySelectorAll('.graphiql-editor-tool')].some((tool) => tool.getBoundingClientRect().right > 0)"
    )

    assert await headers(page) == authorized(site.accounts[0])
    assert not inside


async def test_status_time_and_size_of_an_answer_are_shown(page: Page, site: Site) -> None:
    await visit(page, site.url)
    await run(page)
    shown = await page.until("document.querySelector('.status-line').innerText")

    assert re.fullmatch(r"200\s+\d+ ms\s+\d+(\.\d)? k?B", shown)


async def test_explain_shows_cost_and_statements_in_place_of_the_data(page: Page, site: Site) -> None:
    await visit(page, site.url)
    await page.click(EXPLAIN)
    answer = json.loads(await page.until(f"({RESPONSE}).getValue()"))

    assert [part["path"] for part in answer["extensions"]["cost"]["fields"]] == ["viewer", "viewer.tasks.nodes"]
    assert answer["extensions"]["statements"]["count"] > 0
    assert answer["extensions"]["statements"]["rows"] > 1
    assert "data" not in answer


async def test_explain_does_not_execute_a_mutation(page: Page, site: Site) -> None:
    await visit(page, site.url)
    await show(page, 1, "CreateTask")
    await page.click(EXPLAIN)
    answer = json.loads(await page.until(f"({RESPONSE}).getValue()"))

    assert answer["extensions"]["cost"]["requested"] > 0
    assert "statements" not in answer["extensions"]
    assert "data" not in answer


async def test_a_narrow_screen_shows_question_and_answer_below_each_other(debugger: str, site: Site) -> None:
    async with tab(debugger, width=400, height=800) as page:
        await visit(page, site.url)
        await run(page)
        parts = [".graphiql-editors", ".graphiql-response", RUN, "button.act-as"]
        box = "document.querySelector('{}').getBoundingClientRect().toJSON()"
        boxes = [json.loads(await page.evaluate(f"JSON.stringify({box.format(part)})")) for part in parts]
        wide = await page.evaluate("document.documentElement.scrollWidth")

    question, answer, *_ = boxes
    assert wide == 400
    assert all(box["left"] >= 0 and box["right"] <= 400 and box["bottom"] <= 800 for box in boxes)
    assert min(question["width"], answer["width"]) > 350
    assert question["bottom"] <= answer["top"] + 1
    assert min(question["height"], answer["height"]) > 200
