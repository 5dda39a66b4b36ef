# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Clips of the synthetic sources with frames, captioners at stand-ins, and what the tests of captions share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from PIL import Image

from data_preprocess.curation.captions.captioner import Captioner
from data_preprocess.curation.captions.context import Context, ShowSettings, contexts
from data_preprocess.curation.captions.stand_in import StandIn
from data_preprocess.curation.model import Clip, Video
from data_preprocess.curation.stand_in_server import app
from data_preprocess.curation.synthetic import TRUTHS
from data_preprocess.curation.synthetic.drawing import Scale

FEW = ShowSettings(frames=3, longest_side=96)
LISTED = 60


def clip_of(source: str, video: int = 0, start: int = 0) -> Clip:
    """A minute of a synthetic video at about one frame a second."""
    found: Video = list(TRUTHS[source](Scale(videos=4)))[video]
    step = max(1, round(found.rate)) if source in ("AVOS", "NurViD") else 1
    numbers = list(found.numbers)[::step][start : start + LISTED]
    return Clip(found, min(found.rate, 1.0), tuple(numbers))


def contexts_of(*sources: str, videos: int = 1, settings: ShowSettings = FEW) -> list[Context]:
    return [one for name in sources for video in range(videos) for one in contexts(clip_of(name, video), settings)]


def context_of(source: str, task: str) -> Context:
    return next(one for one in contexts_of(source) if one.task == task)


def paint(root: Path, asked: list[Context]) -> None:
    """Grey frames for all clips."""
    for path in {path for context in asked for path in context.clip.paths}:
        file = root / path
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 48), (90, 80, 80)).save(file)


@contextmanager
def serving(application: web.Application) -> Iterator[str]:
    """The address of an application that runs on a thread of its own."""
    loop, ready, place = asyncio.new_event_loop(), threading.Event(), {}
    runner = web.AppRunner(application, access_log=None)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        place["port"] = runner.addresses[0][1]
        ready.set()

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(30)
    try:
        yield f"http://127.0.0.1:{place['port']}/v1"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


@contextmanager
def stand_ins(mistakes: float = 0.0, logs: Path | None = None) -> Iterator[list[dict[str, Any]]]:
    """Options of two captioners at stand-ins; with ``logs`` they note their mistakes in a.jsonl and b.jsonl."""
    names = ("stand-in-a", "stand-in-b")
    a, b = (app(StandIn(name, mistakes), logs and logs / f"{name[-1]}.jsonl") for name in names)
    with serving(a) as first, serving(b) as second:
        shared = {"api_key": "none", "backoff_s": 0.001, "prompt_price": 0.0, "completion_price": 0.0}
        yield [{"base_url": url, "model": name, **shared} for url, name in zip((first, second), names, strict=True)]


def captioners(options: list[dict[str, Any]], store: Path | None = None, **more: Any) -> list[Captioner]:
    return [Captioner(store=store and str(store), **{**one, **more}) for one in options]
