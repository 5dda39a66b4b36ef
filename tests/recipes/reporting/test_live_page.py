# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The page over a run at work: steps come while it is open, and what somebody looks at stays."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import made_report
import pytest

from recipes.medgrpo.reporting.page import write_page


class Run:
    """A made-up run of which a number of steps is there: what its server says of it."""

    def __init__(self, folder):
        self.folder, self.steps, self.version, self.asked = folder, 2, 1, []
        self.news = threading.Condition()
        self.ends = False

    def grow(self, steps: int) -> None:
        with self.news:
            self.steps, self.version = steps, self.version + 1
            self.news.notify_all()

    def piece(self, name: str, first: int) -> dict:
        found = made_report.pieces(self.folder, steps=self.steps, frames=False, live=True)[name]
        if name == "rollouts_r0" and first:
            places = [at for at, step in enumerate(found["columns"]["step"]) if step >= first]
            columns = {key: [values[at] for at in places] for key, values in found["columns"].items()}
            texts = {step: file for step, file in found["texts"].items() if int(step) >= first}
            return {"from": first, "columns": columns, "texts": texts}
        return found


@pytest.fixture
def run(tmp_path):
    write_page(tmp_path, single=None, live=True)
    run = Run(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            url = urlsplit(self.path)
            run.asked.append(self.path)
            self.send_response(200)
            if url.path == "/events":
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                told = 0
                while not run.ends:
                    if told != run.version:
                        told = run.version
                        self.wfile.write(f"data: {json.dumps({'version': told})}\n\n".encode())
                        self.wfile.flush()
                    with run.news:
                        run.news.wait(0.2)
                return
            if url.path.startswith("/data/"):
                name = url.path.removeprefix("/data/").removesuffix(".js")
                piece = run.piece(name, int(parse_qs(url.query).get("from", ["0"])[0]))
                body, kind = f'medgrpo.put("{name}",{json.dumps(piece)});'.encode(), "text/javascript"
            else:
                file = run.folder / (url.path.lstrip("/") or "index.html")
                kinds = {".css": "text/css", ".js": "text/javascript"}
                body, kind = file.read_bytes(), kinds.get(file.suffix, "text/html")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    run.address = f"http://127.0.0.1:{server.server_port}/"
    yield run
    run.ends = True
    server.shutdown()
    server.server_close()


def test_new_steps_appear_and_only_they_are_asked_for(window, run):
    view = window()
    view.open(run.address, "#rollouts?at=2.1")
    assert view.text(".count") == "64 of 64 answers in 8 groups"
    second = view.page.locator("article.answer").nth(1)
    marked = second.get_attribute("id")
    second.locator("h3 a").click()
    view.page.wait_for_selector(f"#{marked}.marked")
    run.grow(5)
    view.page.wait_for_function("() => document.querySelector('.count').textContent.startsWith('160 of 160')")
    assert view.text("#live") == "live · step 5"
    # What somebody looks at stays, and the new steps can be reached.
    assert view.text(".detail h2") == "Step 2, CholecT50/nap"
    assert view.page.locator("article.answer.marked").get_attribute("id") == marked
    view.turn("#rollouts?at=5.1")
    view.page.wait_for_function("() => document.querySelector('.detail h2').textContent.startsWith('Step 5')")
    asked = [path for path in run.asked if path.startswith("/data/rollouts_r0.js?")]
    assert asked and all("from=2" in path or "from=5" in path for path in asked)
    assert view.complaints == []


def test_curves_grow(window, run):
    view = window()
    view.open(run.address, "#training?level=all&measure=reward&smooth=0")
    view.page.wait_for_selector(".chart canvas")
    run.grow(6)
    view.page.wait_for_function("() => document.querySelector('#live').textContent.endsWith('step 6')")
    last = made_report.pieces(run.folder, steps=6, frames=False)["curves_r0"]["series"]["reward|all|"][-1]
    shown = "value => [...document.querySelectorAll('.chart tbody td')].some(cell => cell.textContent === value)"
    view.page.wait_for_function(shown, arg=f"{last:.3f}")
    assert view.complaints == []
