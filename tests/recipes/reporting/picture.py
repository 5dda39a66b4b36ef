# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""A picture of a report's page, small enough for the repository.

python tests/recipes/reporting/picture.py report/index.html "#rollouts?pair=task:stg&from=10" docs/images/report.png
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from conftest import OPTIONS, Window, chromium
from PIL import Image
from playwright.sync_api import sync_playwright

SIZE = (1280, 1100)


def small(png: bytes) -> Image.Image:
    """The picture's upper part in 64 colours."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    return picture.crop((0, 0, SIZE[0], min(SIZE[1], picture.height))).quantize(64)


def main(page_file: str, place: str, output: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(OPTIONS))
        view = Window(browser.new_context(viewport=dict(zip(("width", "height"), SIZE, strict=True))))
        view.open(Path(page_file), place)
        view.page.wait_for_timeout(1000)
        small(view.page.screenshot()).save(output, optimize=True)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
