# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Data of a report made up from a seed, in the form in which the page reads it: every task, drawn frames, no training.

    python tests/recipes/reporting/made_report.py FOLDER [STEPS]

The page's own tests use it, as they need a box, a score and a hostile text whose place they know.
"""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

from recipes.medgrpo.reporting.page import data_block, write_page

PAIRS = tuple(
    f"medvidbench/{name}"
    for name in (
        *("AVOS/tal", "CholecTrack20/stg", "CoPESD/dvc", "CholecT50/nap"),
        *("NurViD/vs", "EgoSurgery/rc", "JIGSAWS/sa", "Cholec80_CVS/cvs"),
    )
)
TASKS = tuple(pair.rpartition("/")[2] for pair in PAIRS)
CANVAS = (320, 180)
TIMES = tuple(float(time) for time in range(0, 16, 2))
GOLD_BOX, ANSWER_BOX = [80, 45, 160, 90], [200, 90, 280, 150]
"""The same in every row of spatial grounding and in every answer to it."""
ASKED_BOX, ASKED_TIME = [40, 60, 120, 150], 6.0
"""The region that the region caption is asked about."""
SCORED = (2, 1, 0.625)
"""A step and a group whose best answer has exactly this reward."""
HOSTILE = (
    "</script><script>window.attacked = 'text'</script><img src=x onerror=\"window.attacked = 'image'\">",
    "\"quotes\" 'single' `back` ${window.attacked = 'template'} \\ \u2028 \u2029 \x00 &amp; <b>bold</b>",
    "\u05e9\u05dc\u05d5\u05dd \u202eright to left\u202c \u0645\u0631\u062d\u0628\u0627",
    "long " * 200_000,
)


def signals_of(task: str) -> tuple[str, ...]:
    if task in ("vs", "rc"):
        return ("similarity", "judge")
    return ("temporal_f1", "similarity", "judge") if task == "dvc" else ("iou",)


def said_of(task: str, start: float, draw: random.Random) -> dict:
    """What is read from an answer that places things at `start`."""
    span = [round(start, 1), round(start + 4, 1)]
    if task == "tal":
        return {"spans": [span]}
    if task == "stg":
        return {"boxes": [{"time": time, "box": ANSWER_BOX} for time in TIMES[1:4]]}
    if task == "dvc":
        caption = draw.choice(["The surgeon cuts the tissue.", "A knot is tied by hand."])
        return {"events": [{"start": span[0], "end": span[1], "caption": caption}]}
    if task == "nap":
        return {"label": draw.choice(["cutting", "tying", "suturing"])}
    if task in ("sa", "cvs"):
        return {"scores": {name: draw.randint(1, 5) for name in ("time and motion", "flow of operation")}}
    return {"text": draw.choice(["The grasper holds the gallbladder.", "The hook dissects the triangle of the duct."])}


def rows(thumbs: Path | None) -> list[dict]:
    """A row for every pair, and a frame every two seconds; a square moves over the frames."""
    draw = random.Random(1)
    found = []
    for index, pair in enumerate(PAIRS):
        task = pair.rpartition("/")[2]
        gold = said_of(task, 4.0, draw)
        if task == "stg":
            gold = {"boxes": [{"time": time, "box": GOLD_BOX} for time in TIMES[1:4]]}
        frames = []
        for time in TIMES:
            thumb = None
            if thumbs is not None:
                thumb = f"thumbs/{index}_{time:.0f}.jpg"
                picture = Image.new("RGB", (160, 90), (70 + 12 * index, 60, 80))
                corner = 10 + 8 * time
                ImageDraw.Draw(picture).rectangle((corner, 30, corner + 24, 54), fill=(200, 120, 110))
                picture.save(thumbs / Path(thumb).name, quality=80)
            frames.append({"time": time, "thumb": thumb, "w": 160, "h": 90})
        text = json.dumps(gold, ensure_ascii=False)
        asked = {"boxes": [{"time": ASKED_TIME, "box": ASKED_BOX}]} if task == "rc" else {}
        found.append(
            {"pair": pair, "file": "annotations.json", "index": index, "question": f"What of {task} happens here?"}
            | {"gold_text": text, "gold": gold, "duration": 16.0, "width": CANVAS[0], "height": CANVAS[1], "fps": 0.5}
            | {"frames": frames, "asked": asked}
        )
    return found


def answer_of(task: str, value: float, draw: random.Random, judged: bool, text: str | None) -> dict:
    said = said_of(task, 4 + 8 * (1 - value), draw)
    marks = dict.fromkeys(("terminology", "instruments_anatomy", "specificity", "procedure_context", "action_state"), 3)
    names = signals_of(task)
    return {
        "text": text if text is not None else json.dumps(said, ensure_ascii=False),
        "raw": {name: value for name in names},
        "normalised": {name: min(1.0, value * 1.2) for name in names},
        "judge": {"marks": marks | {"specificity": 4}, "reason": "Right organ, vague verb."} if judged else None,
        "error": None,
        "said": said,
    }


def rollouts(run: str, steps: int, per_step: int, size: int, texts: bool, hostile: bool) -> dict[str, object]:
    """`rollouts_RUN` and the `answers_RUN_STEP` of its steps."""
    draw = random.Random(run)
    names = ("step", "group", "pair", "row", "reward", "format", "acc", "advantage", "tokens", "flags")
    columns: dict[str, list] = {name: [] for name in names}
    files: dict[str, object] = {}
    named = {}
    for step in range(1, steps + 1):
        answers = []
        for group in range(per_step):
            pair = (step + group) % len(PAIRS)
            task = PAIRS[pair].rpartition("/")[2]
            rewards = [round(min(1.0, max(0.0, draw.gauss(0.3 + 0.4 * step / steps, 0.18))), 4) for _ in range(size)]
            if (step, group) == SCORED[:2]:
                rewards = [SCORED[2] * (1 - place / 10) for place in range(size)]
            mean = sum(rewards) / size
            spread = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / size) or 1.0
            for place, reward in enumerate(rewards):
                flags = (2 if (step + place) % 11 == 0 else 0) | (4 if place == 7 else 0)
                values = (step, group, pair, pair, reward, 0.0 if place == 7 else 1.0, round(reward, 1))
                values += (round((reward - mean) / spread, 4), draw.randint(6, 96), flags)
                for name, value in zip(names, values, strict=True):
                    columns[name].append(value)
                if texts:
                    text = HOSTILE[place % len(HOSTILE)] if hostile else None
                    answers.append(answer_of(task, reward, draw, task in ("vs", "rc", "dvc"), text))
        if texts:
            named[str(step)] = f"answers_{run}_{step:06d}"
            files[named[str(step)]] = {"answers": answers}
    return {f"rollouts_{run}": {"columns": columns, "texts": named}} | files


def curves(steps: int, draw: random.Random) -> dict:
    at = list(range(1, steps + 1))
    noisy = lambda base: [round(base + 0.3 * step / steps + draw.gauss(0, 0.05), 5) for step in at]
    series = {}
    for measure in ("reward", "accuracy", "format", "gradient_share", "saturation", "tokens"):
        for pair in PAIRS:
            series[f"{measure}|pair|{pair}"] = noisy(draw.random() * 0.4)
            series[f"{measure}|task|{pair.rpartition('/')[2]}"] = noisy(draw.random() * 0.4)
        series[f"{measure}|all|"] = noisy(0.3)
    series |= {f"{measure}|all|": noisy(0.6) for measure in ("clip_share", "rollout_actor_corr", "judge_cost")}
    return {"step": at, "attempt": [1 if step <= steps / 2 else 2 for step in at], "series": series}


def distributions(draw: random.Random) -> dict:
    def bins(mean: float) -> list[int]:
        counts = [0] * 20
        for _ in range(300):
            counts[min(19, max(0, int(draw.gauss(mean, 0.2) * 20)))] += 1
        return counts

    def signal() -> dict:
        p50, iqr = round(0.2 + 0.4 * draw.random(), 3), 0.25
        curve = [[x / 32, 1 / (1 + math.exp(-3 * (x / 32 - p50) / iqr))] for x in range(33)]
        return {"p50": p50, "iqr": iqr, "k": 3.0, "bins": bins(p50), "recent": bins(p50 + 0.15), "curve": curve}

    found: dict[str, dict] = {}
    for pair, task in zip(PAIRS, TASKS, strict=True):
        found[pair] = {"signals": {name: signal() for name in signals_of(task)}}
        for name, mean in (
            ("rewards_before", 0.2 + 0.4 * draw.random()),
            ("rewards_after", 0.5),
            ("recent_after", 0.6),
        ):
            found[pair] |= {name: bins(mean), f"{name}_figures": {"n": 300, "mean": mean, "variance": 0.04}}
    return found


def evaluation(draw: random.Random) -> dict:
    found = []
    for index, pair in enumerate(PAIRS):
        task = pair.rpartition("/")[2]
        before, after = round(draw.random(), 3), round(draw.random(), 3)
        sides = {}
        for side, value in (("a", before), ("b", after)):
            answer = answer_of(task, value, draw, False, None)
            sides[side] = {"acc": value, "text": answer["text"], "said": answer["said"], "raw": answer["raw"]}
        found.append({"row": index, "pair": pair, "difference": round(after - before, 3)} | sides)
    found.sort(key=lambda row: -abs(row["difference"]))
    return {"a": {"name": "SFT"}, "b": {"name": "MedGRPO"}, "rows": found}


def run_index(run: str, steps: int, texts: bool, hostile: bool) -> dict:
    name = f"run {run} {HOSTILE[0]}" if hostile else f"made up {run}"
    figure = {"name": "acc", "before": 0.38, "after": 0.42, "change": 0.04, "low": 0.01, "high": 0.07, "n": 40}
    about = [(None, None), *((task, None) for task in TASKS), *(pair.split("/")[:0:-1] for pair in PAIRS)]
    figures = [figure | {"task": task, "source": source, "blind": 0.31} for task, source in about]
    warnings = [
        {"kind": "blind", "text": "AVOS/tal has not beaten the blind answer", "link": f"#training?run={run}&only=tal"}
    ]
    if hostile:
        warnings.append({"kind": HOSTILE[1], "text": HOSTILE[0], "link": "javascript:window.attacked='link'"})
    return {
        "id": run,
        "name": name,
        "folder_name": f"outputs/{run}",
        "status": "finished",
        "steps": steps,
        "started": "2026-01-02T03:04:05",
        "figures": figures,
        "warnings": warnings,
        "settings": [
            ["rollout.n", 8, 5, "changed"],
            ["actor.lr", 1e-6, 1e-6, ""],
            ["note", HOSTILE[2], None, "changed"],
        ],
        "versions": {"verl": "0.9.1"},
        "leaderboard": [{"column": "TAG@0.3", "before": 0.1, "after": 0.2, "blind": 0.15}],
        "resumes": [steps // 2],
        "pairs": list(PAIRS),
        "metrics": [],
        "has": {"rollouts": True, "texts": texts, "evaluation": True, "statistics": True},
    }


def pieces(folder: Path, *, runs=1, steps=6, per_step=4, size=8, texts=True, frames=True, hostile=False, live=False):
    """Every piece of data of a report by its name; thumbnails are drawn into `folder/thumbs`."""
    thumbs = folder / "thumbs" if frames else None
    if thumbs is not None:
        thumbs.mkdir(parents=True, exist_ok=True)
    found: dict[str, object] = {}
    made = rows(thumbs)
    if hostile:
        for row, text in zip(made, HOSTILE, strict=False):
            row["question"] = text
    for number in range(runs):
        run, draw = f"r{number}", random.Random(number)
        found |= rollouts(run, steps, per_step, size, texts, hostile)
        found[f"curves_{run}"] = curves(steps, draw)
        found[f"distributions_{run}"] = distributions(draw)
        found[f"evaluation_{run}"] = evaluation(draw)
        found[f"rows_{run}_0"] = {"first": 0, "rows": made}
    index = [run_index(f"r{number}", steps, texts, hostile) for number in range(runs)]
    title = HOSTILE[0] if hostile else "A made-up report"
    found["index"] = {
        "format": 1,
        "title": title,
        "made": "2026-01-02T03:04:05",
        "single": False,
        "live": live,
        "runs": index,
    }
    return found


def make(folder: Path, *, single: bool = False, **settings) -> Path:
    """A report in `folder`; returns its page. `settings` are those of `pieces`."""
    found = {name: json.dumps(value) for name, value in pieces(folder, **settings).items()}
    if not single:
        (folder / "data").mkdir(parents=True, exist_ok=True)
        for name, text in found.items():
            script = f'medgrpo.put("{name}",{data_block(name, text)["text"]});\n'
            (folder / "data" / f"{name}.js").write_text(script, encoding="utf-8")
    write_page(folder, single=found if single else None, live=settings.get("live", False))
    return folder / "index.html"


if __name__ == "__main__":
    print(make(Path(sys.argv[1]), runs=2, steps=int(sys.argv[2]) if len(sys.argv) > 2 else 30))
