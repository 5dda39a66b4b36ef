# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""How long the report's page takes in a browser over a long run: to open, to filter, to sort, to draw its curves.

    python tests/benchmarks/bench_report_page.py [--steps 5000] [--per-step 2] [--size 5]

Makes a report of made-up data (by default 5,000 steps with 50,000 rollouts), opens it in Chromium from the file system
and prints milliseconds beside the bars: 2 s to open, 200 ms for a filter. A filter's time is that from the change of a
field until the list and the group are drawn. The second figure of a line is the processor time of the page's main
thread for the same, which other work on the machine does not lengthen; the ratio is that of the second.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/recipes/reporting")]
OPEN_MS, FILTER_MS = 2000.0, 200.0

# Milliseconds from a change of the address until two frames after everything was drawn.
TURN = """
place => new Promise(done => {
  const began = performance.now();
  window.addEventListener("hashchange", () => medgrpo.drawn().then(() =>
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)))), { once: true });
  location.hash = place;
})
"""
OPENED = "performance.getEntriesByType('navigation')[0].loadEventEnd"
PLACES = {
    "training, all tasks": ("#training", None),
    "rollouts, first time": ("#rollouts", None),
    "filter by pair": ("#rollouts?pair=medvidbench/AVOS/tal", FILTER_MS),
    "filter by reward": ("#rollouts?low=0.2&high=0.4", FILTER_MS),
    "filter by steps and attack": ("#rollouts?from=1000&to=4000&flag=2", FILTER_MS),
    "sort all by advantage": ("#rollouts?unit=answers&sort=advantage-high", FILTER_MS),
    "next group": ("#rollouts?unit=answers&sort=advantage-high&at=7.1", FILTER_MS),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--per-step", type=int, default=2)
    parser.add_argument("--size", type=int, default=5)
    args = parser.parse_args()
    import made_report
    from conftest import OPTIONS, chromium
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = made_report.make(
            Path(folder), steps=args.steps, per_step=args.per_step, size=args.size, texts=False
        )
        megabytes = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 1e6
        print(f"{args.steps} steps, {args.steps * args.per_step * args.size} rollouts, {megabytes:.1f} MB")
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(OPTIONS))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})

        def busy() -> float:
            metrics = session.send("Performance.getMetrics")["metrics"]
            return next(1000 * one["value"] for one in metrics if one["name"] == "TaskDuration")

        before = busy()
        page.goto(page_file.as_uri())
        page.wait_for_selector("main .tab h2")
        report("open", page.evaluate(OPENED), busy() - before, OPEN_MS)
        for name, (place, bar) in PLACES.items():
            before = busy()
            report(name, page.evaluate(TURN, place), busy() - before, bar)
            print(f"{'':32s}{page.evaluate('document.querySelector(`.count`)?.textContent ?? ``')}")
        browser.close()
    return 0


def report(name: str, wall: float, own: float, bar: float | None) -> None:
    ratio = "" if bar is None else f"{own / bar:6.2f} of {bar:.0f} ms"
    print(f"{name:30s}{wall:9.0f} ms{own:9.0f} ms  {ratio}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
