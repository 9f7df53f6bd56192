"""The schema in its own language at `/schema.graphql`, for code generators and the checks of a front end."""

import gzip
import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha256

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from graph import schema
from graph.transport.media import accepts_gzip

PATH = "/schema.graphql"
ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')


@dataclass(frozen=True, slots=True)
class Sdl:
    """The text as it is sent, and the tag that says which one it is."""

    plain: bytes
    compressed: bytes
    tag: str


def sdl_routes() -> list[Route]:
    """The address of the schema: to be left out where introspection is not answered."""
    return [Route(PATH, _schema, methods=["GET"])]


async def _schema(request: Request) -> Response:
    """The SDL, sorted as in the snapshot; 304 for those who have it already (RFC 9110, section 13.1.2)."""
    # In a thread: the first request prints and compresses it (about 0.1 s).
    sdl = await to_thread.run_sync(_sdl)
    headers = {
        # A proxy or a browser may keep it and has to ask whether it is still the same: the next release changes it.
        "Cache-Control": "public, no-cache",
        "ETag": f"W/{sdl.tag}",  # weak: it is one text, compressed or not
        "Vary": "Accept-Encoding",
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }
    if _is_known(request.headers.getlist("If-None-Match"), sdl.tag):
        return Response(status_code=304, headers=headers)
    compress = accepts_gzip(", ".join(request.headers.getlist("Accept-Encoding")).encode("latin-1"))
    if compress:
        headers["Content-Encoding"] = "gzip"
    # `text/plain`, since there is no registered type for it, and people can read it in a browser.
    return Response(sdl.compressed if compress else sdl.plain, media_type="text/plain", headers=headers)


def _is_known(headers: list[str], tag: str) -> bool:
    given = ", ".join(headers).strip()
    return given == "*" or tag in ENTITY_TAG.findall(given)


@cache
def _sdl() -> Sdl:
    plain = schema.sdl().encode()
    return Sdl(plain, gzip.compress(plain, mtime=0), f'"{sha256(plain).hexdigest()[:32]}"')
