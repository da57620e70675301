"""What every request passes before a route sees it: who is asking, how often, and typed errors on the way out."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gesso_protocol.errors import GessoError
from gesso_relay.limits import RateLimit
from gesso_relay.replies import Problem, http_problem, internal_problem, problem
from gesso_relay.settings import Limits

CLIENT = web.RequestKey("client", str)
_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Access-Control-Allow-Origin": "*",
    "Referrer-Policy": "no-referrer",
}


Draw = Callable[[Problem], web.Response]


def gate(limits: Limits, *, trust_forwarded_for: bool, draw: Draw = Problem.reply) -> Middleware:
    """The one middleware of the relay. `draw` makes of a problem what readers of pages get."""
    rate = RateLimit(limits.requests_per_s, limits.request_burst, limits.clients_remembered)
    log = structlog.get_logger("gesso.relay")

    @web.middleware
    async def pass_through(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[CLIENT] = client_of(request, trust_forwarded_for=trust_forwarded_for)
        found: Problem | None = None
        try:
            rate.take(request[CLIENT], time.monotonic())
            reply = await handler(request)
        except GessoError as error:
            found = problem(error)
        except web.HTTPException as error:
            found = http_problem(error)
        except (ConnectionError, TimeoutError):
            raise
        except Exception:
            log.exception("request.failed", route=str(request.match_info.route.name), method=request.method)
            found = internal_problem()
        if found is not None:
            reply = draw(found) if _reads_pages(request) else found.reply()
        if not reply.prepared:
            reply.headers.update({name: value for name, value in _SECURITY.items() if name not in reply.headers})
        return reply

    return pass_through


def _reads_pages(request: web.Request) -> bool:
    programs = request.path.startswith("/v1/") or request.path == "/metrics"
    return not programs and "text/html" in request.headers.get("Accept", "")


def client_of(request: web.Request, *, trust_forwarded_for: bool) -> str:
    """The address that asks. The last hop of X-Forwarded-For is the one that our own proxy wrote."""
    forwarded = request.headers.get("X-Forwarded-For") if trust_forwarded_for else None
    return network_of(forwarded.rpartition(",")[2].strip() if forwarded else request.remote or "unknown")


def network_of(address: str, prefix: int = 64) -> str:
    """What is counted as one client: an address, or a household's block of addresses. `prefix` for IPv6."""
    try:
        parsed = ipaddress.ip_address(_without_port(address))
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:  # as who listens on [::] calls its IPv4 clients
            return str(parsed.ipv4_mapped)
        # One household gets a /64, so counting single addresses would limit nobody.
        return str(ipaddress.ip_network((parsed, prefix), strict=False))
    return str(parsed)


def _without_port(address: str) -> str:
    """Some proxies write `1.2.3.4:5678` or `[::1]:5678`."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address
