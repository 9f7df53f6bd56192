"""Signs that a request did not come straight from its client, but through a proxy.

None of them is proof: a proxy may be told to add nothing. They are what proxies, tunnels and content networks add
unless told otherwise, and no browser or program sends any of them by itself.
"""

from starlette.types import Scope

NAMES = frozenset(
    b"""
    via x-real-port x-scheme x-host x-url-scheme x-rewrite-url x-varnish
    surrogate-capability x-cloud-trace-context x-edge-request-id x-github-request-id x-appgw-trace-id
    disguised-host front-end-https x-request-start connect-time total-route-time x-bluecoat-via x-coming-from
    """.split()
)
PREFIXES = tuple(
    b"""
    x-original- x-originating- x-envoy- x-appengine- x-azure- x-arr- x-amzn- x-amz-cf- x-akamai- x-vercel-
    x-nf- x-railway- akamai- cf- cloudfront- fastly- fly- l5d- ngrok- tailscale-
    """.split()
)
# Whatever has one of these in its name: there is no end to its spellings (X_FORWARDED_FOR, X-ForwardedFor,
# X-Http-Forwarded-For). Names are compared with `-` for `_`, which gateways change into each other.
WORDS = tuple(
    b"""
    forward proxy proxied client-ip clientip real-ip realip remote-ip remoteip remote-addr src-ip cdn
    """.split()
)
# What nearly every request has, so that it need not be compared with the prefixes.
ORDINARY = frozenset(
    b"""
    host user-agent accept accept-encoding accept-language authorization connection content-type content-length
    """.split()
)


def sign_of_a_proxy(scope: Scope) -> str | None:
    """What shows that a request came through a proxy, in words; None when nothing does."""
    for name, _ in scope["headers"]:
        if name not in ORDINARY and of_a_proxy(name.replace(b"_", b"-")):
            return f"the header {name[:40].decode('latin-1').title()}"
    # nginx asks in HTTP/1.0 unless told otherwise, with the server's own address as Host and no header of these. Other
    # versions of what is sent in this form are spoken by nobody.
    if (version := scope.get("http_version")) != "1.1":
        return f"HTTP/{version}, which no browser speaks here"
    return None


def of_a_proxy(name: bytes) -> bool:
    return name in NAMES or name.startswith(PREFIXES) or any(word in name for word in WORDS)
