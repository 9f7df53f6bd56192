"""Signs that a request did not come straight from its client, but through a proxy.

None of them is proof: a proxy may be told to add nothing. They are what proxies, tunnels and content networks add
unless told otherwise, and no browser or program sends any of them by itself.
"""

from starlette.types import Scope

NAMES = frozenset(
    b"""
    forwarded forwarded-for forwarded-host forwarded-proto via x-forwarded
    x-real-ip x-real-port x-client-ip x-cluster-client-ip x-remote-ip x-remote-addr client-ip true-client-ip
    x-scheme x-host x-url-scheme x-rewrite-url x-nginx-proxy x-proxy-id x-haproxy-server-state x-varnish
    surrogate-capability cdn-loop x-cloud-trace-context x-edge-request-id x-github-request-id x-appgw-trace-id
    disguised-host front-end-https x-request-start connect-time total-route-time
    proxy-connection proxy-client-ip wl-proxy-client-ip x-bluecoat-via x-coming-from
    """.split()
)
PREFIXES = tuple(
    b"""
    x-forwarded- x-original- x-originating- x-envoy- x-appengine- x-azure- x-arr- x-amzn- x-amz-cf- x-akamai- x-vercel-
    x-nf- x-railway- akamai- cf- cloudfront- fastly- fly- l5d- ngrok- tailscale-
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
        if name not in ORDINARY and (name in NAMES or name.startswith(PREFIXES)):
            return f"the header {name[:40].decode('latin-1').title()}"
    # nginx asks in HTTP/1.0 unless told otherwise, with the server's own address as Host and no header of these.
    if scope.get("http_version") == "1.0":
        return "HTTP/1.0, which a proxy speaks and no browser"
    return None
