# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A report that follows runs at work: the same page, its data made when they are asked for.

It reads the runs' files and writes none of them. New steps reach an open page by server-sent events.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query
from fastapi.responses import Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from recipes.medgrpo.files import RecipeError
from recipes.medgrpo.reporting.payload import as_json, script
from recipes.medgrpo.reporting.thumbnails import FOLDER
from recipes.medgrpo.reporting.write import Report
from reward_score.errors import RewardError

HOST = "127.0.0.1"
HEARTBEAT_S = 15.0
FRESH = {"Cache-Control": "no-store"}
T = TypeVar("T")
logger = logging.getLogger(__name__)


class Watched:
    """A report whose runs are looked at again and again, one look or answer at a time."""

    def __init__(self, report: Report, every_s: float):
        self.report, self.every_s = report, every_s
        self.version = 0
        self._changed = asyncio.Condition()
        self._alone = asyncio.Lock()

    async def ask(self, work: Callable[..., T], *arguments: Any) -> T:
        """The result of some work on the report, outside of the event loop."""
        async with self._alone:
            return await asyncio.to_thread(work, *arguments)

    async def look(self) -> None:
        """Look for what is new, until cancelled. What is half written is taken up by a later look."""
        told = ""
        while True:
            try:
                if await self.ask(self.report.refresh):
                    async with self._changed:
                        self.version += 1
                        self._changed.notify_all()
                told = ""
            except (RecipeError, RewardError, OSError) as error:
                # Said once: the next look comes in a moment.
                if str(error) != told:
                    logger.warning("%s", error)
                told = str(error)
            await asyncio.sleep(self.every_s)

    async def events(self) -> AsyncIterator[str]:
        """The version of what there is, now and whenever it changes; a comment when nothing has for a while."""
        told = None
        while True:
            if self.version == told:
                yield ": still here\n\n"
            else:
                told = self.version
                yield f"data: {json.dumps({'version': told})}\n\n"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news(told), HEARTBEAT_S)

    async def _news(self, told: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.version != told)


def make_app(report: Report, page: Path, every_s: float = 2.0) -> FastAPI:
    """The server of a live report; `page` is a folder with the page's own files (`page.write_page`)."""
    watched = Watched(report, every_s)

    @contextlib.asynccontextmanager
    async def looking(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(watched.look())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    app = FastAPI(title="MedGRPO run", docs_url=None, redoc_url=None, openapi_url=None, lifespan=looking)
    # Another site's page could be given our address under its own name.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])

    def data(name: str, first: int) -> str | None:
        piece = report.piece(name, first)
        return None if piece is None else script(name, as_json(piece))

    @app.get("/data/{name}.js")
    async def give_data(name: str, first: Annotated[int, Query(alias="from")] = 0) -> Response:
        try:
            text = await watched.ask(data, name, first)
        except (RecipeError, RewardError, OSError) as error:
            return Response(str(error), 503, media_type="text/plain")
        return _found(text, "text/javascript")

    @app.get(f"/{FOLDER}/{{name}}")
    async def give_picture(name: str) -> Response:
        return _found(await watched.ask(report.thumbs.picture, f"{FOLDER}/{name}"), "image/jpeg")

    @app.get("/events")
    async def give_events() -> StreamingResponse:
        return StreamingResponse(watched.events(), media_type="text/event-stream", headers=FRESH)

    app.mount("/", StaticFiles(directory=page, html=True))
    return app


def _found(content: str | bytes | None, kind: str) -> Response:
    if content is None:
        return Response("there is nothing of this name", 404, media_type="text/plain")
    return Response(content, media_type=kind, headers=FRESH)
