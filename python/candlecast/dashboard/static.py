"""The pages' files, as `make web` built them: compressed once, named by their content, kept by browsers for good."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from candlecast.dashboard.problems import Refused

BUILT: Final = Path(__file__).with_name("static")
_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain"}
_ENCODINGS: Final = (("br", ".br"), ("gzip", ".gz"))
_POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",
        "style-src 'self' 'unsafe-inline'",  # the chart library sets styles of its own
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
_NOT_BUILT: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>candlecast</title>
<h1>The pages are not built</h1><p>They need Node.js 20 or newer when they are built
(Debian: <code>apt-get install nodejs npm</code>):
run <code>make web</code>, then reload. The API works without them: <a href="/docs">/docs</a>.</p></html>"""


def mount(app: FastAPI) -> None:
    """Serve the pages under /ml/ and their files under /ml/static/."""

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/ml/")

    @app.get("/ml/static/{name}", include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        path = BUILT / name
        if path.parent != BUILT or path.suffix not in _TYPES or not path.is_file():
            raise Refused(404, "NOT_FOUND", f"there is no file {name}")
        accepted = request.headers.get("accept-encoding", "")
        for encoding, suffix in _ENCODINGS:
            if encoding in accepted and (packed := path.with_name(name + suffix)).is_file():
                return FileResponse(
                    packed, media_type=_TYPES[path.suffix], headers={**_KEPT, "Content-Encoding": encoding}
                )
        return FileResponse(path, media_type=_TYPES[path.suffix], headers=_KEPT)

    @app.get("/ml", include_in_schema=False)
    @app.get("/ml/{page:path}", include_in_schema=False)
    async def page(page: str = "") -> Response:
        """Every page is the same document; which one it shows its script reads from the address."""
        if page.startswith("static/"):
            raise Refused(404, "NOT_FOUND", f"there is no file {page}")
        index = BUILT / "index.html"
        text = index.read_text() if index.is_file() else _NOT_BUILT
        return HTMLResponse(
            text,
            200 if index.is_file() else 503,
            {"Cache-Control": "no-cache", "Content-Security-Policy": _POLICY},
        )


_KEPT: Final = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
