# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The page that shows a report's data: one template, scripts and styles of ours, and uPlot for the curves.

uPlot's two files come out of the installed package `youplot`, which carries them; none of its own code is used.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from recipes.medgrpo.files import RecipeError, write_atomic

HERE = Path(__file__).parent
CARRIER = "youplot"
SCRIPTS = (
    *("core.js", "focus.js", "state.js", "figures.js", "charts.js", "overview.js", "training.js", "normalisation.js"),
    *("answers.js", "list.js", "clip.js", "group.js", "history.js", "rollouts.js", "evaluation.js", "keys.js"),
)
"""In the order in which they are loaded: each uses only those before it."""
ESCAPES = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}
"""Characters of JSON that could end a script, and the same as JSON's own escapes."""


class Asset(NamedTuple):
    """A file of the page: its name in the folder, its text, and what a policy calls it."""

    name: str
    text: str

    @property
    def hash(self) -> str:
        digest = hashlib.sha256(self.text.encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"


def chart_library() -> tuple[Asset, Asset]:
    """uPlot's script and styles. Raises RecipeError without the package that carries them."""
    found = find_spec(CARRIER)
    folder = Path(found.origin).parent / "vendor" if found and found.origin else None
    names = ("uplot.iife.min.js", "uplot.min.css")
    if folder is None or not all((folder / name).is_file() for name in names):
        raise RecipeError(f"the report needs uPlot from the package {CARRIER}: pip install 'medgrpo-verl[report]'")
    script, styles = (Asset(name, (folder / name).read_text(encoding="utf-8")) for name in names)
    return script, styles


def assets() -> tuple[list[Asset], list[Asset]]:
    """Scripts and styles of the page, in the order in which they are loaded."""
    uplot_script, uplot_styles = chart_library()
    scripts = [Asset(name, (HERE / name).read_text(encoding="utf-8")) for name in SCRIPTS]
    return [uplot_script, *scripts], [uplot_styles, Asset("report.css", (HERE / "report.css").read_text("utf-8"))]


def data_block(name: str, text: str) -> dict[str, str]:
    """One piece of data for a page in a single file: JSON in which nothing can end a script."""
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"{name!r} is no name of data")
    return {"name": name, "text": text.translate(ESCAPES)}


def write_page(folder: Path, *, single: Mapping[str, str] | None, live: bool) -> None:
    """Write `index.html` into `folder`, and beside it `page/` with scripts and styles.

    `single` holds the JSON text of every piece of data by its name, and then all of it stands in `index.html`. Without
    it the page loads `data/NAME.js`. `live` lets the page ask its server for news.
    """
    # Its templates are needed only here, and by those who installed the extra `report`.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    scripts, styles = assets()
    template = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    blocks = None if single is None else [data_block(name, text) for name, text in single.items()]
    text = template.get_template("index.html.j2").render(scripts=scripts, styles=styles, blocks=blocks, live=live)
    if single is None:
        for asset in [*scripts, *styles]:
            write_atomic(folder / "page" / asset.name, asset.text)
    write_atomic(folder / "index.html", text)
