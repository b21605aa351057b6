"""The API's own documents: `/openapi.json` for machines, `/docs` for people.

True here: both are made once, when somebody first asks, beside the loop: a start does not wait for papers that most processes
never show. From then on they are bytes, and a request costs no more than sending them. The page is allowed its own style
sheet and nothing else. See docs/decisions/0009.
"""

import asyncio
import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from handlers.access import Access
from handlers.answers import JSON
from handlers.docs_page import STYLE, docs_page
from handlers.endpoints import Call, Reply, Route
from handlers.etags import etag_of, is_known
from handlers.openapi import openapi
from handlers.openapi_parts import HTML, Json

_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Documents:
    """What describes some routes. `routes` are the two rows that serve it, described in it as well; `document` is the whole.

    `server`: where the API is reached; `/` when clients reach it where they found the document. `page`: whether clients are
    shown the page too, and not only operators.
    """

    def __init__(self, described: Iterable[Route], *, server: str, page: bool = True) -> None:
        self.routes: Final = (
            Route("GET", "/openapi.json", self.show_openapi, Access.PUBLIC, dict[str, Any], "Documents", cached=True),
            Route("GET", "/docs", self.show_docs, Access.PUBLIC, None, "Documents", cached=True),
        )
        self._described = (*described, *self.routes[: 1 + page])
        self._server = server
        self._papers: _Papers | None = None
        self._one_at_a_time = asyncio.Lock()
        self.page_headers: Final = {"Content-Security-Policy": _POLICY}

    @property
    def document(self) -> Json:
        """The OpenAPI document as data, made anew."""
        return openapi(self._described, server=self._server)

    async def show_openapi(self, call: Call[None]) -> Reply:
        """This document: OpenAPI 3.1, made from the routes and schemas that serve."""
        return (await self._made()).openapi.reply(call)

    async def show_docs(self, call: Call[None]) -> Reply:
        """The same for people, on one page that needs no network."""
        return (await self._made()).page.reply(call)

    async def _made(self) -> "_Papers":
        """Both, made by the first who asks; whoever asks meanwhile waits for those."""
        async with self._one_at_a_time:
            if self._papers is None:
                self._papers = await asyncio.to_thread(self._make)
        return self._papers

    def _make(self) -> "_Papers":
        document = self.document
        page = _Paper(docs_page(document).encode(), HTML, self.page_headers)
        return _Papers(_Paper(orjson.dumps(document), JSON, {}), page)


class _Paper:
    """Bytes that stay the same as long as the process."""

    def __init__(self, content: bytes, media_type: str, headers: dict[str, str]) -> None:
        self._content = content
        self._media_type = media_type
        self._etag = etag_of(content)
        self._headers = headers | {"ETag": self._etag, "Cache-Control": "public, no-cache", "Vary": "Accept"}

    def reply(self, call: Call[None]) -> Reply:
        if is_known(self._etag, call.request.headers.get("If-None-Match", "")):
            return Reply(b"", status=304, headers=self._headers, media_type=self._media_type)
        return Reply(self._content, headers=self._headers, media_type=self._media_type)


@dataclass(frozen=True, slots=True)
class _Papers:
    """The document and its page."""

    openapi: _Paper
    page: _Paper
