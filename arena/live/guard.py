"""Admits only requests of browsers that have opened the page itself."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses what another site's page sends, and adds the headers of the page's own policy.

    Another site's name can resolve to this machine (DNS rebinding), so a name in the header Host
    must be `host` or localhost. Addresses are safe. A change needs the page's own Origin.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        app = self._app
        if problem := self._find_problem(scope):
            app = PlainTextResponse(problem, 403)
        await app(scope, receive, send_with_headers)

    def _find_problem(self, scope: Scope) -> str:
        headers = Headers(scope=scope)
        address = headers.get("host", "")
        if not self._is_ours(address):
            return "the header Host names another site"
        if scope["method"] in ("GET", "HEAD"):
            return ""
        if urlsplit(headers.get("origin", "")).netloc != address:
            return "the header Origin must be the page's own"
        if headers.get("content-type", "").partition(";")[0] != "application/json":
            return "the body must be application/json"
        return ""

    def _is_ours(self, address: str) -> bool:
        try:
            name = urlsplit(f"//{address}").hostname or ""
            if name in ("localhost", self._host):
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
