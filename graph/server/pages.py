"""The pages for people: GraphiQL at the API's own address, and the files it loads. Nothing comes from elsewhere."""

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from graph.transport.media import accepts_gzip

STATIC = Path(__file__).parent.parent / "static"

# 'unsafe-inline' for styles: the Monaco editor writes its colours and positions into style elements and attributes.
# 'self' in connect-src covers the WebSocket of the same host and port (CSP level 3, section 6.7.2.8).
PAGE_POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self'",
        "worker-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "font-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
)
# A worker obeys the policy of its own script, not that of the page that started it.
FILE_POLICY = "default-src 'none'; script-src 'self'; frame-ancestors 'none'"

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".woff2": "font/woff2",
}
COMPRESSED_ALREADY = {".png", ".woff2"}
HASHED = re.compile(r"/assets/[^/]+-[\w-]{8}\.\w+$")
CONFIGURATION = '<script id="configuration" type="application/json">{}</script>'


@dataclass(frozen=True, slots=True)
class DemoAccount:
    """Somebody a visitor of the page may act as. The token is sent to every visitor: demo mode only."""

    name: str
    email: str
    role: str
    token: str = field(repr=False)


def graphiql(request: Request, *, demo_accounts: Sequence[DemoAccount] = (), explain: bool = False) -> Response:
    """GraphiQL, talking to the address it is served from; with `explain`, its button for what an operation takes.

    `demo_accounts` fill its "Act as" menu; without any there is a form to sign in, and nothing secret in the page.
    """
    configuration: dict[str, Any] = {"explain": True} if explain else {}
    if demo_accounts:
        configuration["accounts"] = [asdict(account) for account in demo_accounts]
    # Relative, so that it also works below the path that a proxy gives it.
    page = _template().replace('"./', '"../static/graphiql/' if request.url.path.endswith("/") else '"static/graphiql/')
    page = page.replace(CONFIGURATION, CONFIGURATION.replace("{}", _data_block(configuration)))
    return HTMLResponse(
        page,
        headers={
            "Cache-Control": "no-store" if demo_accounts else "no-cache",
            "Content-Security-Policy": PAGE_POLICY,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "Vary": "Accept",
            "X-Content-Type-Options": "nosniff",
        },
    )


def static_routes() -> list[Route]:
    """The files of the pages under /static. Files whose name carries a hash of their content are cached for a year."""
    return [Route("/static/{path:path}", _file, methods=["GET"])]


async def _file(request: Request) -> Response:
    path = _files().get(request.path_params["path"])
    if path is None:
        return PlainTextResponse("Not found", status_code=404, headers={"X-Content-Type-Options": "nosniff"})
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if HASHED.search(path.as_posix()) else "max-age=3600",
        "Content-Security-Policy": FILE_POLICY,
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }
    compress = path.suffix not in COMPRESSED_ALREADY
    if compress:
        headers["Vary"] = "Accept-Encoding"
    compress = compress and accepts_gzip(request.headers.get("Accept-Encoding", "").encode("latin-1"))
    if compress:
        headers["Content-Encoding"] = "gzip"
    # In a thread: the first request for a file reads and compresses it (up to 0.1 s for the editor).
    body = await to_thread.run_sync(_content, path, compress)
    return Response(body, media_type=MEDIA_TYPES[path.suffix], headers=headers)


@cache
def _files() -> dict[str, Path]:
    """What may be asked for, by name: a request cannot name anything that is not listed here.

    No HTML: a page is only served with the policy that belongs to it.
    """
    paths = (path for path in STATIC.rglob("*") if path.suffix in MEDIA_TYPES and path.is_file())
    return {path.relative_to(STATIC).as_posix(): path for path in paths}


@cache
def _content(path: Path, compress: bool) -> bytes:
    """A file's bytes. Kept for good: they are few megabytes, and a release never changes them."""
    content = path.read_bytes()
    return gzip.compress(content, mtime=0) if compress else content


@cache
def _template() -> str:
    template = (STATIC / "graphiql" / "index.html").read_text("utf-8")
    if CONFIGURATION not in template:
        raise RuntimeError("graph/static/graphiql/index.html has no place for the configuration: build it again")
    return template


def _data_block(value: object) -> str:
    """JSON that cannot end the script element or open a comment inside it (HTML, section 4.12.1.3)."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
