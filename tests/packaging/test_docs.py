# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What the documentation names exists: links, scripts, modules, flags, variables; its examples give what it says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("reward_score", "reward_score/judge", "data_preprocess", "recipes/medgrpo", "upstream")
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / room / "README.md" for room in ROOMS),
]
PAGES = [page for page in PAGES if page.exists()]

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
# Four spaces after a blank line, or after another such line.
INDENTED = re.compile(r"(?<=\n\n)(?: {4}[^\n]*\n|\n(?= {4}))+")
COMMAND = re.compile(
    r"(?P<set>(?:[A-Z][A-Z0-9_]*=(?:\"[^\"]*\"|\S+) +)*)"
    r"(?P<run>python -m|python|bash) (?P<what>[\w./-]+)(?P<rest>[^|#]*)"
)

# Prints as JSON what each of these commands says of itself: [["-m", "module", "sub"], ["file.py"], ...] in argv[1].
SAY_HELP = """
import contextlib, io, json, runpy, sys

said = []
for command in json.loads(sys.argv[1]):
    module, arguments = (command[1], command[2:]) if command[0] == "-m" else (None, command[1:])
    page = io.StringIO()
    sys.argv = [command[0], *arguments, "--help"]
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        if module is None:
            runpy.run_path(command[0], run_name="__main__")
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    said.append(page.getvalue())
print("SAID " + json.dumps(said))
"""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code_of(page: Path) -> list[str]:
    """Code blocks and code spans, lines that go on after a backslash joined."""
    text = text_of(page)
    blocks = [match[2] for match in FENCE.finditer(text) if match[1] != "mermaid"]
    plain = FENCE.sub("", text)
    blocks += [match[0] for match in INDENTED.finditer(plain)]
    blocks += re.findall(r"`([^`\n]+)`", INDENTED.sub("", plain))
    return [re.sub(r" *\\\n\s*", " ", block) for block in blocks]


@dataclass(frozen=True)
class Command:
    """One command of a page: how it is started, what, its words, and the variables set before it."""

    page: str
    run: str
    what: str
    words: tuple[str, ...] = ()
    variables: tuple[str, ...] = field(default=())

    @property
    def flags(self) -> set[str]:
        return {word.split("=")[0] for word in self.words if word.startswith("--")}

    @property
    def key(self) -> tuple[str, ...]:
        """The command without its arguments; of those with subcommands, with these."""
        head = ("-m", self.what) if self.run == "python -m" else (self.what,)
        words = self.words
        if self.what == "recipes.medgrpo" and words:
            head, words = (*head, words[0]), words[1:]
        subcommands = []
        for word in words:
            if not re.fullmatch(r"[a-z]+", word) or head[-1] not in WITH_SUBCOMMANDS:
                break
            subcommands.append(word)
        return (*head, *subcommands)


SCRIPTS = ("data_preprocess/medvidbench.py", "data_preprocess/curate.py")
WITH_SUBCOMMANDS = ("evaluate", "judge_study", "skill", "reward_score.judge", *SCRIPTS)


def commands() -> list[Command]:
    found = []
    for page in PAGES:
        for block in code_of(page):
            for line in block.splitlines():
                for match in COMMAND.finditer(line.strip()):
                    variables = re.findall(r"([A-Z][A-Z0-9_]*)=", match["set"])
                    words = tuple(match["rest"].split())
                    found.append(Command(name_of(page), match["run"], match["what"], words, tuple(variables)))
    return found


COMMANDS = commands()
OURS = [one for one in COMMANDS if one.what.split(".")[0] != "verl" and one.what != "-c"]


def test_the_pages_hold_what_is_checked():
    assert {"README.md", "docs/architecture.md", "recipes/medgrpo/README.md"} <= {name_of(page) for page in PAGES}
    assert len(OURS) > 30 and any(one.flags for one in OURS)
    assert any(one.what == "examples/run_medgrpo.sh" for one in OURS)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text_of(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


def test_scripts_and_modules_exist():
    missing = set()
    for one in OURS:
        path = Path(one.what.replace(".", "/")) if one.run == "python -m" else Path(one.what)
        places = (path.with_suffix(".py"), path / "__main__.py") if one.run == "python -m" else (path,)
        beside = ROOT / one.page
        if not any((root / place).is_file() for root in (ROOT, beside.parent) for place in places):
            missing.add((one.page, one.what))
    assert missing == set()


@pytest.fixture(scope="module")
def known_flags() -> dict[tuple[str, ...], set[str]]:
    """Flags by command, from what each command says of itself. One process imports them all."""
    keys = sorted({one.key for one in OURS if one.flags and one.run != "bash"})
    done = subprocess.run(
        [sys.executable, "-c", SAY_HELP, json.dumps(keys)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "VERL_PLATFORM": "cpu", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "SAID " in done.stdout, done.stderr[-2000:]
    said = json.loads(done.stdout.split("SAID ")[1])
    return {key: set(re.findall(r"--[a-z][\w-]*", page)) for key, page in zip(keys, said, strict=True)}


def test_tests_that_a_page_names_exist():
    named = {(name_of(page), test) for page in PAGES for test in re.findall(r"`(tests/\S+\.py::\w+)`", text_of(page))}
    assert len(named) > 20

    @cache
    def tests_of(file: str) -> set[str]:
        return set(re.findall(r"^ *(?:async )?def (test_\w+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE))

    assert {(page, test) for page, test in named if test.split("::")[1] not in tests_of(test.split("::")[0])} == set()


def test_flags_are_known_to_their_commands(known_flags):
    unknown = {
        (one.page, one.what, *sorted(extra)) for one in OURS if (extra := one.flags - flags_of(one, known_flags))
    }
    assert unknown == set()


def flags_of(one: Command, known: dict[tuple[str, ...], set[str]]) -> set[str]:
    if one.run == "bash":
        # hydra's and the scripts' own.
        return {"--cfg", "--resolve", "--dry-run", "--setup-only", "--vllm", "--one-shot"}
    return known.get(one.key, set()) | {"--help"}


def sources() -> str:
    files = [ROOT / "pyproject.toml"]
    for room in ("examples", "tests", "reward_score", "data_preprocess", "recipes"):
        files += [
            file
            for file in (ROOT / room).rglob("*")
            if file.suffix in (".sh", ".py", ".yaml", ".sbatch", ".txt") or file.name == "Dockerfile"
        ]
    return "\n".join(file.read_text(encoding="utf-8") for file in files if file != Path(__file__).resolve())


def test_variables_are_read_somewhere():
    """`NAME=value` before a command, and `LONG_NAME` in code: some script or module knows the name."""
    known = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", sources()))
    named = {(one.page, variable) for one in COMMANDS for variable in one.variables}
    for page in PAGES:
        for code in code_of(page):
            named |= {(name_of(page), word) for word in re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", code)}
    # What stands for a value of the reader's.
    stand_ins = {"RAW_SIGNALS", "TEST_FILE"}
    assert {(page, name) for page, name in named if name not in known | stand_ins} == set()


class Example(NamedTuple):
    blocks: list[str]
    rows: list[list[str]]


def example(page: str) -> Example:
    """Python blocks of a page, and the cells of its table rows whose first cell is code."""
    text = text_of(ROOT / "docs" / page)
    blocks = [match[2] for match in FENCE.finditer(text) if match[1] == "python"]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    return Example(blocks, rows)


def test_the_scored_answers_of_the_rewards_page():
    from reward_score.medgrpo import compute_score

    (block,), rows = example("rewards.md")
    truth = re.search(r"truth = '(.*)'", block)[1]
    answers = re.findall(r'"([^"]+)"', re.search(r"for answer in \((.*)\):", block)[1])
    shown = {cells[0]: [float(cell) for cell in cells[1:5]] for cells in rows if cells[0] in answers}
    assert list(shown) == answers
    for answer, numbers in shown.items():
        result = asyncio.run(compute_score("medvidbench/AVOS/tal", answer, truth))
        assert [result[key] for key in ("format", "raw_iou", "acc", "score")] == pytest.approx(numbers, abs=5e-4)


def test_the_normalised_values_of_the_rewards_page():
    from reward_score.normalization import logistic

    text = text_of(ROOT / "docs/rewards.md")
    raw = [float(cell) for cell in re.search(r"\| raw IoU \|(.*)\|", text)[1].split("|")]
    for source, p50 in (("EgoSurgery", 0.12), ("CoPESD", 0.5)):
        shown = [float(cell) for cell in re.search(rf"\| {source} \|(.*)\|", text)[1].split("|")]
        assert [logistic(x, p50, 0.2) for x in raw] == pytest.approx(shown, abs=5e-4)


def test_the_ninth_task_scores_as_its_page_says():
    from reward_score import answers, tasks

    blocks, rows = example("adding_a_task.md")
    exec(blocks[0], parser := dict(vars(answers)))
    functions, row = re.split(r"^ +(?=Task\()", blocks[1], flags=re.MULTILINE)
    names = dict(vars(tasks)) | {"answers": type("answers", (), {"parse_ic": staticmethod(parser["parse_ic"])})}
    exec(functions, names)
    (task,) = eval(f"({row.split('  #')[0].strip()})", names)
    gold = task.gold({"count": 3})
    shown = [cells for cells in rows if len(cells) == 4 and re.fullmatch(r"[0-9.]+", cells[3])]
    assert len(shown) == 4
    for answer, score, acc, form in shown:
        parsed = task.parse(answer)
        raw = task.measure(parsed.value, gold, None) if parsed.format else dict.fromkeys(task.weights, 0.0)
        reward = parsed.format * sum(weight * raw[signal] for signal, weight in task.weights.items())
        strict = sum(weight * raw[signal] for signal, weight in task.acc.items())
        assert (reward, strict, parsed.format) == pytest.approx((float(score), float(acc), float(form)), abs=5e-4)


def planned(options: str) -> list[str]:
    """What the planner says, as the cells of the hardware table."""
    from recipes.medgrpo import plan

    said = plan.make(plan.parse(options.split()))
    assert said["memory"]["problems"] == []
    fullest = max(sum(parts.values()) for parts in said["memory"]["phases"].values())
    clips = [said["time"]["frames"][frames] for frames in ("60", "120", "180")]
    return [
        f"{fullest:.1f} of {said['memory']['usable_gib']:.1f}",
        f"{max(sum(parts.values()) for parts in said['memory']['host_gib'].values()):.0f}",
        ", ".join(plan.between(clip["step"], 0 if clip["step"][0] > 20 else 1) for clip in clips),
        ", ".join(plan.between(clip["hours"], 0) for clip in clips),
    ]


def test_the_hardware_table_is_the_planners():
    after = text_of(ROOT / "README.md").split("<!-- hardware table -->")[1]
    lines = after.split("<!-- end of hardware table -->")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    shown = {cells[1].strip("`"): cells[2:] for cells in rows if len(cells) > 1 and cells[1].startswith("`--")}
    assert len(shown) == 8
    assert {options: planned(options) for options in shown} == shown


COLUMNS = {
    "CVS": "cvs_acc",
    "NAP": "nap_acc",
    "SA": "sa_acc",
    "STG": "stg_miou",
    "TAG@.3": "tag_miou_03",
    "TAG@.5": "tag_miou_05",
    "DVC F1": "dvc_f1",
    "DVC judge": "dvc_llm",
    "VS judge": "vs_llm",
    "RC judge": "rc_llm",
}


def test_published_figures_are_those_of_the_evaluation():
    models = json.loads((ROOT / "recipes/medgrpo/evaluation/published.json").read_text())["models"]
    known = {entry["model"]: entry["columns"] for entry in models}
    lines = text_of(ROOT / "docs/reproducing.md").splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("| model | CVS"))
    titles = [cell.strip() for cell in lines[head].strip("|").split("|")][1:]
    assert titles == list(COLUMNS)
    shown = 0
    for line in lines[head + 2 :]:
        if not line.startswith("|"):
            break
        model, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert {COLUMNS[title]: float(cell) for title, cell in zip(titles, cells, strict=True)} == known[model], model
        shown += 1
    assert shown == 8
