# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The report's page in a real browser: what is shown, the keys, the links, hostile data, and who can read it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import made_report
import pytest
from seen_pixels import ANSWER, ASKED, GOLD, edges, near, pixels

TABS = ("overview", "training", "normalisation", "rollouts", "evaluation")


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    return made_report.make(tmp_path_factory.mktemp("report"), runs=2)


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Path:
    """The same in one file, which is taken away from its thumbnails."""
    folder = tmp_path_factory.mktemp("single")
    made_report.make(folder, single=True)
    return (folder / "index.html").rename(tmp_path_factory.mktemp("elsewhere") / "report.html")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict:
    """What the reports above show, by name."""
    return made_report.pieces(tmp_path_factory.mktemp("data"), frames=False)


def rollouts(data: dict) -> list[dict]:
    columns = data["rollouts_r0"]["columns"]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_every_page_opens_from_the_file_system(window, report):
    view = window()
    for tab in TABS:
        view.open(report, f"#{tab}")
        assert view.text("nav [aria-current=page]").lower() == tab
    assert view.complaints == []
    assert [url for url in view.requests if not url.startswith(("file:", "data:", "about:"))] == []


def test_a_single_file_needs_nothing_beside_it(window, single):
    view = window()
    view.open(single)
    for tab in TABS:
        view.turn(f"#{tab}")
        assert view.page.locator("main .tab").inner_text().count("\n") > 3
    # Thumbnails are files in this made-up report; the writer of real ones puts them into the file.
    missing = [line for line in view.complaints if "thumbs" not in line and "img-src" not in line]
    assert missing == []


def test_a_filter_leaves_the_answers_that_fit(window, report, data):
    view = window()
    view.open(report, "#rollouts")
    view.page.get_by_label("Pair", exact=True).select_option("medvidbench/AVOS/tal")
    view.page.get_by_label("Reward from").fill("0.4")
    view.page.get_by_label("Reward from").press("Enter")
    fits = [one for one in rollouts(data) if one["pair"] == 0 and one["reward"] >= 0.4]
    assert 0 < len(fits) < len(rollouts(data))
    groups = {(one["step"], one["group"]) for one in fits}
    assert view.text(".count") == f"{len(fits)} of {len(rollouts(data))} answers in {len(groups)} groups"
    view.page.get_by_label("What happened").select_option(label="attack found")
    attacks = [one for one in fits if one["flags"] & 2]
    assert view.text(".count").startswith(f"{len(attacks)} of ")
    # The address says it all: another window that opens it shows the same.
    other = window()
    other.open(report, view.place())
    assert other.text(".count") == view.text(".count")


def test_answers_are_sorted_by_advantage(window, report, data):
    view = window()
    view.open(report, "#rollouts?unit=answers&sort=advantage-high")
    shown = view.page.locator(".list li").all_inner_texts()[:5]
    best = sorted((one["advantage"] for one in rollouts(data)), reverse=True)[:5]
    found = [re.search(r"adv\. ([+−]\d+\.\d\d)", text)[1].replace("−", "-") for text in shown]
    assert [float(text) for text in found] == pytest.approx(best, abs=0.005)


def test_a_known_answer_has_its_score(window, report):
    step, group, reward = made_report.SCORED
    view = window()
    view.open(report, f"#rollouts?at={step}.{group}")
    first = view.page.locator("article.answer").first
    assert first.locator("h3").inner_text() == "Answer 1"
    assert first.locator(".earned div", has_text="reward").locator("dd").inner_text() == f"{reward:.3f}"
    advantages = view.page.locator("article.answer .earned div", has_text="advantage").locator("dd").all_inner_texts()
    values = [float(text.replace("−", "-")) for text in advantages]
    assert len(values) == 8 and values == sorted(values, reverse=True)


def test_a_judges_marks_stand_beside_the_caption(window, report):
    view = window()
    view.open(report, "#rollouts?pair=medvidbench/NurViD/vs")
    judge = view.page.locator("article.answer .judge").first
    assert judge.locator("li", has_text="specificity").locator(".mark").inner_text() == "4"
    assert "Right organ, vague verb." in judge.inner_text()


@pytest.mark.parametrize("canvas", [".stage canvas", "article.answer canvas"])
def test_boxes_are_drawn_where_they_are(window, report, canvas):
    view = window()
    view.open(report, "#rollouts?pair=medvidbench/CholecTrack20/stg&frame=2")
    view.page.wait_for_timeout(200)
    picture = pixels(view, canvas)
    scale = picture.width / made_report.CANVAS[0]
    assert picture.height == pytest.approx(made_report.CANVAS[1] * scale, abs=1.5)
    for box, colour in ((made_report.GOLD_BOX, GOLD), (made_report.ANSWER_BOX, ANSWER)):
        assert edges(picture, colour) == pytest.approx([value * scale for value in box], abs=2.5)


def test_the_region_that_is_asked_about_is_drawn_where_it_is_at_its_time(window, report):
    view = window()
    view.open(report, "#rollouts?pair=medvidbench/EgoSurgery/rc")
    # The clip opens at the region's frame.
    assert view.text(".readout") == "6 s · frame 4 of 8"
    picture = pixels(view, ".stage canvas")
    scale = picture.width / made_report.CANVAS[0]
    assert edges(picture, ASKED) == pytest.approx([value * scale for value in made_report.ASKED_BOX], abs=2.5)
    assert "the region that is asked about, drawn dotted" in view.text(".key")
    assert view.page.locator(".timeline .point.asked").count() == 1
    view.page.keyboard.press("f")
    assert view.text(".readout") == "8 s · frame 5 of 8"
    with pytest.raises(ValueError, match="unpack"):
        edges(pixels(view, ".stage canvas"), ASKED)
    view.turn("#rollouts?pair=medvidbench/CholecTrack20/stg")
    view.page.wait_for_function("() => document.querySelector('.detail h2').textContent.endsWith('stg')")
    assert "asked" not in view.text(".key")


def test_boxes_are_told_apart_without_colours(window, report):
    """Of a line gold is whole, an answer has two thirds, and the region that is asked about a third."""
    view = window()
    shares = {}
    for pair, at, kinds in (
        ("CholecTrack20/stg", 2, {"gold": GOLD, "answer": ANSWER}),
        ("EgoSurgery/rc", 3, {"asked": ASKED}),
    ):
        view.open(report, f"#rollouts?pair=medvidbench/{pair}&frame={at}")
        view.text(".readout")
        picture = pixels(view, ".stage canvas")
        for kind, colour in kinds.items():
            left, top, right, bottom = edges(picture, colour)
            rows = [
                [near(picture.getpixel((x, y)), colour) for x in range(left, right + 1)] for y in range(top, top + 3)
            ]
            shares[kind] = max(sum(row) / len(row) for row in rows)
    assert shares["gold"] > 0.95 and 0.5 < shares["answer"] < 0.8 and 0.2 < shares["asked"] < 0.45


def test_a_frame_without_boxes_shows_none(window, report):
    view = window()
    view.open(report, "#rollouts?pair=medvidbench/CholecTrack20/stg&frame=7")
    view.page.wait_for_timeout(200)
    with pytest.raises(ValueError, match="unpack"):
        edges(pixels(view, ".stage canvas"), GOLD)


def test_spans_stand_on_the_clips_time_line(window, report):
    view = window()
    view.open(report, "#rollouts?pair=medvidbench/AVOS/tal")
    lane, bar = (view.page.locator(f".timeline .track:first-child {name}").bounding_box() for name in (".lane", ".bar"))
    # The gold span is 4 to 8 of 16 seconds.
    assert (bar["x"] - lane["x"]) / lane["width"] == pytest.approx(4 / 16, abs=0.01)
    assert bar["width"] / lane["width"] == pytest.approx(4 / 16, abs=0.01)


def test_keys_step_through_groups_steps_rows_and_answers(window, report):
    view = window()
    view.open(report, "#rollouts?at=2.1")
    heading = lambda: view.text(".detail h2")
    press = view.page.keyboard.press
    seen = [heading()]
    for key, place in zip("np][.,", ("2.2", "2.1", "3.0", "2.1", "2.2", "2.1"), strict=True):
        press(key)
        view.page.wait_for_function("place => location.hash.includes('at=' + place)", arg=place)
        view.page.wait_for_timeout(50)
        seen.append(heading())
    assert seen[0] == seen[2] == seen[4] == seen[6] == "Step 2, CholecT50/nap"
    assert seen[3] == "Step 3, CholecT50/nap"  # the next step, with the same row
    assert seen[1] == seen[5] == "Step 2, NurViD/vs"  # the next group, which has the next row
    marked = lambda: view.page.locator("article.answer.marked").get_attribute("id")
    order = [card.get_attribute("id") for card in view.page.locator("article.answer").all()]
    press("j")
    view.page.wait_for_function("id => document.querySelector('article.answer.marked').id === id", arg=order[1])
    assert marked() == order[1]
    press("5")
    view.page.wait_for_selector(".tab.evaluation h2")
    assert view.complaints == []


def test_the_focus_stays_where_it_is_when_the_page_draws_itself_anew(window, report):
    """With the keyboard alone: two steps in a select, on to the next field, and a link of the list."""
    view = window()
    view.open(report, "#rollouts")
    press = view.page.keyboard.press
    focused = lambda: view.page.evaluate(
        "() => (document.activeElement.labels?.[0] ?? document.activeElement).textContent"
    )
    view.page.get_by_label("Pair", exact=True).focus()
    press("ArrowDown")
    view.page.wait_for_function("() => location.hash === '#rollouts?pair=task%3Acvs'")
    press("ArrowDown")
    view.page.wait_for_function("() => location.hash === '#rollouts?pair=task%3Advc'")
    press("Tab")
    view.page.keyboard.type("2")
    press("Tab")
    view.page.wait_for_function("() => location.hash.includes('from=2')")
    view.text(".count")
    assert focused() == "to"
    view.turn("#rollouts")
    view.page.wait_for_selector(".list li:nth-child(2)")
    link = view.page.locator(".list li a").nth(1)
    link.focus()
    said = focused()
    press("Enter")
    view.page.wait_for_selector(".list li.marked:nth-child(2)")
    view.text(".count")
    assert focused() == said
    view.page.get_by_role("button", name="Colours").focus()
    press("Enter")
    view.page.wait_for_selector("button:has-text('Colours: light')")
    assert focused() == "Colours: light"


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("#rollouts?at=99.9", "This report has no group 99.9. The first one of the list is shown."),
        ("#rollouts?at=2.1&low=2", "This group does not fit the filter."),
        ("#rollouts?low=2", "No answer of this run fits the filter."),
        ("#rollouts?pair=100%&run=r0", "No answer of this run fits the filter."),
        ("#rollouts?at=2.1&frame=-1&answer=x&from=%E0%A4%A", "Step 2, CholecT50/nap"),
        ("#evaluation?at=99", "Row 99 is not among these. The first one of the list is shown."),
        ("#evaluation?pair=nothing", "No row fits the filter."),
        ("#training?only=nothing&measure=reward", "No curve of this run has such a name."),
        ("#training?level=x&smooth=x&from=b&to=a", "Training"),
        ("#normalisation?pair=nothing&task=x", "No pair of this run fits."),
    ],
)
def test_a_link_that_no_longer_fits_says_so(window, report, place, says):
    view = window()
    view.open(report, place)
    view.page.wait_for_function("says => document.getElementById('main').textContent.includes(says)", arg=says)
    assert view.page.locator("[role=alert]").count() == 0 and view.complaints == []


def test_a_link_to_a_run_that_is_not_here_says_so(window, report):
    view = window()
    view.open(report, "#overview?run=r7")
    assert "There is no run r7 here." in view.text("#tools")


def test_the_overlay_lists_the_keys_and_closes(window, report):
    view = window()
    view.open(report, "#overview")
    view.page.keyboard.press("?")
    assert "next and previous group" in view.text("dialog")
    view.page.keyboard.press("Escape")
    view.page.wait_for_selector("dialog", state="detached")


def test_a_row_is_followed_over_the_steps(window, report, data):
    view = window()
    view.open(report, "#rollouts?at=2.1&view=row")
    view.page.wait_for_selector(".history li")
    steps = sorted({one["step"] for one in rollouts(data) if one["row"] == 3})
    assert view.page.locator(".history li > a").all_inner_texts() == [f"step {step}" for step in steps]
    view.page.locator(".history li > a").last.click()
    view.page.wait_for_selector("article.answer")
    assert view.text(".detail h2").startswith(f"Step {steps[-1]},")


def test_rows_of_two_checkpoints_come_by_their_difference(window, report, data):
    view = window()
    view.open(report, "#evaluation")
    first = data["evaluation_r0"]["rows"][0]
    assert view.text(".detail h3").startswith(made_report.PAIRS[first["row"]].removeprefix("medvidbench/"))
    assert [card.inner_text() for card in view.page.locator("article.answer h3").all()] == ["SFT", "MedGRPO"]
    view.page.get_by_label("Rows", exact=True).select_option("worse")
    worse = [row for row in data["evaluation_r0"]["rows"] if row["difference"] < 0]
    assert view.text(".count") == f"{len(worse)} of 8 rows"


def test_curves_of_two_runs_lie_over_each_other(window, report, data):
    view = window()
    view.open(report, "#training?level=all&measure=reward&over=r1&smooth=0")
    view.page.wait_for_selector(".chart canvas")
    names = view.page.locator(".chart .name").all_inner_texts()
    assert names == ["made up r0", "made up r1"]
    last = view.page.locator(".chart tbody tr").first.locator("td").nth(1).inner_text()
    values = data["curves_r0"]["series"]["reward|all|"][-5:]
    assert float(last) == pytest.approx(sum(values) / 5, abs=5e-4)


def test_dragging_over_a_chart_enlarges_all_of_them_and_is_in_the_address(window, report):
    view = window()
    view.open(report, "#training?level=all")
    view.page.wait_for_selector(".chart canvas")
    box = view.page.locator(".chart .u-over").first.bounding_box()
    mouse, middle = view.page.mouse, box["y"] + box["height"] / 2
    mouse.move(box["x"] + box["width"] * 0.4, middle)
    mouse.down()
    mouse.move(box["x"] + box["width"] * 0.8, middle, steps=5)
    mouse.up()
    view.page.wait_for_function("() => location.hash.includes('from=3') && location.hash.includes('to=5')")
    view.page.wait_for_selector("a.button:has-text('Steps 3–5')")
    assert view.complaints == []


def test_a_report_without_texts_frames_and_rollouts_still_opens(window, tmp_path):
    page = made_report.make(tmp_path, texts=False, frames=False)
    view = window()
    view.open(page, "#rollouts?at=2.1")
    assert "was not recorded" in view.text("article.answer")
    assert view.text("article.answer .earned strong") == f"{made_report.SCORED[2]:.3f}"
    assert view.complaints == []


def test_data_that_cannot_be_read_is_said(window, tmp_path):
    page = made_report.make(tmp_path)
    (tmp_path / "data/curves_r0.js").unlink()
    view = window()
    view.page.goto(page.as_uri() + "#training")
    view.page.wait_for_selector("[role=alert]")
    assert "data/curves_r0.js could not be read" in view.text("[role=alert]")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> dict[str, Path]:
    folder, other = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("hostile_single")
    settings = {"hostile": True, "steps": 2, "per_step": 4}
    return {
        "folder": made_report.make(folder, **settings),
        "single": made_report.make(other, single=True, frames=False, **settings),
    }


@pytest.mark.parametrize("kind", ["folder", "single"])
def test_hostile_data_is_shown_as_text(window, hostile, kind):
    view = window()
    view.open(hostile[kind])
    assert view.text("h1") == made_report.HOSTILE[0]
    for tab in TABS:
        view.turn(f"#{tab}")
        assert view.page.locator("main img, main script, main b, a[href^=javascript]").count() == 0
    assert view.page.evaluate("window.attacked") is None
    assert view.complaints == []


@pytest.mark.slow
def test_hostile_answers_are_whole_and_harmless(window, hostile):
    view = window()
    view.open(hostile["folder"], "#rollouts?at=1.1&cards=made")
    texts = view.page.locator("article.answer .text")
    # A browser shows U+0000 as it likes.
    for place, text in enumerate(made_report.HOSTILE[:3]):
        assert texts.nth(place).text_content().replace("\x00", "") == text.replace("\x00", "")
    assert (
        view.page.evaluate("getComputedStyle(document.querySelectorAll('article.answer .text')[2]).unicodeBidi")
        == "plaintext"
    )
    longest = made_report.HOSTILE[3]
    assert len(texts.nth(3).text_content()) < 2000
    view.page.get_by_role("button", name=f"Show all {len(longest):,} characters").first.click()
    assert len(texts.nth(3).text_content()) == len(longest)
    assert view.complaints == [] and view.page.evaluate("window.attacked") is None


PLACES = (*(f"#{tab}" for tab in TABS), "#rollouts?at=2.1&view=row")


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(window, report, width):
    view = window(width, 844)
    view.open(report)
    for place in PLACES:
        view.turn(place)
        view.page.wait_for_timeout(100)
        assert view.page.evaluate("document.documentElement.scrollWidth") <= width, place
    for pair in made_report.PAIRS:
        view.turn(f"#rollouts?pair={pair}")
        view.page.wait_for_function(
            "task => document.querySelector('.detail h2').textContent.endsWith(task)", arg=pair.partition("/")[2]
        )
        card = view.page.locator("article.answer").first
        assert card.evaluate("card => card.scrollWidth - card.clientWidth") == 0, pair


@pytest.fixture(scope="module")
def axe() -> str:
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)])
def test_contrast_and_labels_pass_axe(window, report, axe, scheme, width):
    view = window(width, 900, scheme)
    view.open(report)
    # The page's own policy forbids scripts from elsewhere; the debugger's evaluation is not bound by it.
    view.page.evaluate(axe)
    said, passed = [], 0
    for place in (*PLACES, "#rollouts?pair=medvidbench/EgoSurgery/rc", "#rollouts?low=2", "#training?only=x"):
        view.turn(place)
        view.page.wait_for_timeout(100)
        found = view.page.evaluate("axe.run()")
        passed += len(found["passes"])
        said += [f"{place} {one['id']}: {one['nodes'][0]['html'][:150]}" for one in found["violations"]]
    view.page.keyboard.press("?")
    view.page.wait_for_selector("dialog[open]")
    said += [f"? {one['id']}: {one['nodes'][0]['html'][:150]}" for one in view.page.evaluate("axe.run()")["violations"]]
    assert said == [], "\n".join(said)
    assert passed > 60


def test_the_switch_of_colours_is_kept(window, report):
    view = window()
    view.open(report, "#overview")
    background = lambda: view.page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = background()
    view.page.keyboard.press("t")  # light
    view.page.keyboard.press("t")  # dark
    view.page.wait_for_selector("button:has-text('Colours: dark')")
    dark = background()
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(20, 23, 27)")
    view.open(report, "#training")
    assert background() == dark


INKED = """selector => [...document.querySelectorAll(selector)].map(canvas => {
    const bytes = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const seen = new Set();
    for (let at = 0; at < bytes.length; at += 4) if (bytes[at + 3] === 255) seen.add(bytes.slice(at, at + 3).join());
    return [...seen];
})"""
"""The colours of each canvas, as `red,green,blue`."""
PRINTED = f"""async selector => {{
    window.dispatchEvent(new Event("beforeprint"));
    await null;
    return ({INKED})(selector);
}}"""
"""The same at the moment at which a browser begins to print."""


def test_paper_is_white_has_no_controls_and_shows_what_nobody_scrolled_to(window, report):
    """A browser prints at once: what is drawn later than its event is not on paper."""
    view = window(scheme="dark")
    view.open(report, "#training?level=pair&split=1")
    charts = view.page.locator(".chart").count()
    assert view.page.locator(".chart canvas").count() < charts
    dark, light = "88,180,240", "0,114,178"  # --c0, the colour of each chart's first line
    assert any(dark in colours for colours in view.page.evaluate(INKED, ".chart canvas"))
    printed = view.page.evaluate(PRINTED, ".chart canvas")
    assert len(printed) == charts and all(light in colours and dark not in colours for colours in printed)
    view.page.emulate_media(media="print")
    assert view.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert view.page.locator(".chart canvas").first.bounding_box()["width"] > 200
    assert not view.page.locator(".controls").is_visible() and not view.page.locator(".tools").is_visible()
    view.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert any(dark in colours for colours in view.page.evaluate(INKED, ".chart canvas"))


def test_frames_are_on_paper(window, tmp_path):
    """Without pictures: a browser lets nobody read a canvas that shows a file."""
    view = window(scheme="dark")
    view.open(made_report.make(tmp_path, frames=False), "#rollouts?pair=medvidbench/CholecTrack20/stg&frame=2")
    view.text(".readout")
    drawn = f"() => ({INKED})('canvas').every(colours => colours.length > 0)"
    view.page.wait_for_function(drawn, polling=500)
    shown = view.page.evaluate(INKED, "canvas")
    # The stage, the strip, and a frame in each of eight answers.
    assert len(shown) > 10
    assert view.page.evaluate(PRINTED, "canvas") == shown
    view.page.emulate_media(media="print")
    visible = [view.page.locator(name).first.is_visible() for name in (".side", ".buttons", "article.answer canvas")]
    assert visible == [False, False, True]


def test_the_scripts_say_nothing_that_the_writer_does_not_escape():
    """Data between `put(` and `)` is JSON in which nothing can end a script, and says the same."""
    from recipes.medgrpo.reporting.page import data_block

    text = json.dumps(made_report.HOSTILE, ensure_ascii=False)
    block = data_block("rows_r0_0", text)["text"]
    assert not set("<>&\u2028\u2029") & set(block)
    assert json.loads(block) == list(made_report.HOSTILE)
    with pytest.raises(ValueError, match="no name"):
        data_block("../x", "1")
