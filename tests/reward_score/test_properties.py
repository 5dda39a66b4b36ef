# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What must hold of every answer, through the scorer itself: bounds, and edits that never pay.

An answer is made from parts (spans, boxes, events, components, sentences), edited, written out and scored. *Never
pays* means that neither `acc` nor `score` nor any raw signal rises. A part is right when the reference has it as it is.

Taking a right part away can pay in one case, which no measure of precision escapes: where another part is nearly as
right, the two were one too many. So it is asked of answers with no more parts than the reference, and of parts that
have no rival.

What 1 means, signal by signal:

* ``iou`` and ``wasserstein`` of tal: the reference's spans and no other, an instant being the sampling interval around
  it;
* ``iou`` of stg: the reference's boxes and no other, each at its time or within half a stride of it;
* ``temporal_f1``: as many events, each of another reference event with an IoU of at least 0.7;
* ``exact`` of nap: the label, case, punctuation and aliases aside;
* ``exact`` and ``closeness`` of cvs and sa: every component's score;
* ``similarity`` and ``judge``: the reference's words in the reference's order, case, punctuation and, for the judge,
  function words and inflection aside.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_score.answers import ASPECTS, CVS_COMPONENTS, CVS_NAMES, PARSERS, Event, render_dvc, render_stg, render_tal
from reward_score.judge import DIMENSIONS
from reward_score.medgrpo import score_many
from reward_score.tasks import TASKS
from reward_score.temporal import gold_nearness, span_iou, temporal_f1
from reward_score.vocabularies import fold_label, label_lists

INTERVAL = {"sample_interval": 0.5}
MARKS = {f"mark_{dimension}" for dimension in DIMENSIONS}


def scores(task, answers, truth, extra=None, **chosen):
    return score_many(
        [(f"medvidbench/CoPESD/{task}", answer, json.dumps(truth), extra) for answer in answers], **chosen
    )


def assert_never_pays(before, after, names=None):
    # A judge's marks are no pay: they say how its signal came about, and are of those captions alone that it saw.
    for name in names or set(before) - {"format"} - MARKS:
        assert after[name] <= before[name] + 1e-9, name


def assert_the_same(before, after):
    assert after == pytest.approx(before, abs=1e-9)


def assert_bounded(result):
    assert all(0 <= value <= 1 for name, value in result.items() if name not in MARKS)
    assert all(1 <= value <= 5 for name, value in result.items() if name in MARKS)
    assert result["format"] in (0, 0.5, 1)


# Whole seconds and an interval of half a second: two spans are never the same frames without being the same.
SPAN = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda pair: (float(min(pair)), float(max(pair))))
ANY_SPAN = st.one_of(SPAN, SPAN.map(lambda span: span[::-1]))
JUNK = st.lists(st.integers(100, 900).map(lambda n: (float(n), n + 1.0)), min_size=1, max_size=60)
GOLD_SPANS = st.lists(SPAN, min_size=1, max_size=4, unique=True)


def tal_truth(spans):
    return {"spans": [list(span) for span in spans]}


def said_with_gold(gold):
    return st.lists(st.one_of(ANY_SPAN, st.sampled_from(gold)), min_size=1, max_size=5)


def nearness(a, b):
    return gold_nearness(a, b, INTERVAL["sample_interval"])


@pytest.mark.parametrize(("chosen", "rival"), [({}, span_iou), ({"tal_wasserstein": True}, nearness)])
@settings(max_examples=120, deadline=None)
@given(GOLD_SPANS.flatmap(lambda gold: st.tuples(st.just(gold), said_with_gold(gold))), JUNK, st.data())
def test_tal_edits_never_pay(chosen, rival, case, junk, data):
    gold, said = case
    part = data.draw(st.sampled_from(said))
    edited = {
        "twice": [*said, part],
        "many times": [*said, *[part] * 20],
        "everything twice": said * 2,
        "junk": [*said, *junk],
        "junk before": [*junk, *said],
        "reversed span": [*said, part[::-1]] if part[0] < part[1] else said,
    }
    right = [span for span in said if span in gold and said.count(span) == 1]
    for span in right:
        rivals = [other for other in said if other != span and rival(other, span) > 0]
        if len(said) > 1 and (len(said) <= len(gold) or not rivals):
            edited[f"without {span}"] = [other for other in said if other != span]
            edited[f"{span} reversed"] = [other if other != span else (other[1] + 1, other[0]) for other in said]
    before, backwards, *after = scores(
        "tal", [render_tal(s) for s in (said, said[::-1], *edited.values())], tal_truth(gold), INTERVAL, **chosen
    )
    assert_bounded(before)
    assert_the_same(before, backwards)
    for name, result in zip(edited, after, strict=True):
        try:
            assert_never_pays(before, result)
        except AssertionError as error:
            raise AssertionError(name) from error
    if before["acc"] > 1 - 1e-9:
        assert sorted(said) == sorted(gold)


@settings(max_examples=60, deadline=None)
@given(GOLD_SPANS, st.lists(ANY_SPAN, min_size=1, max_size=4), st.data())
def test_tal_knows_no_order_no_origin_and_no_unit(gold, said, data):
    shift, factor = data.draw(st.integers(0, 500)), data.draw(st.sampled_from([0.5, 2.0, 4.0, 10.0]))

    def moved(spans):
        return [(shift + factor * start, shift + factor * end) for start, end in spans]

    before, permuted, right = (
        *scores("tal", [render_tal(said)], tal_truth(gold), INTERVAL),
        *scores("tal", [render_tal(said)], tal_truth(data.draw(st.permutations(gold))), INTERVAL),
        *scores("tal", [render_tal(gold)], tal_truth(gold), INTERVAL),
    )
    assert_the_same(before, permuted)
    other = {"sample_interval": 0.5 * factor}
    assert_the_same(before, scores("tal", [render_tal(moved(said))], tal_truth(moved(gold)), other)[0])
    assert right["acc"] == right["score"] == right["format"] == 1


SIDE = st.integers(0, 6).map(lambda n: n * 10.0)
BOX = st.builds(lambda x, y, w, h: (x, y, x + 10 + w, y + 10 + h), SIDE, SIDE, SIDE, SIDE)
FAR = (500.0, 500.0, 510.0, 510.0)
STRIDE = 4
GOLD_BOXES = st.dictionaries(st.integers(0, 8).map(lambda n: 2.0 + STRIDE * n), BOX, min_size=1, max_size=5)


def stg_truth(boxes, scale=1.0):
    return {"boxes": {str(time): [scale * v for v in box] for time, box in boxes.items()}, "stride": STRIDE}


def boxes_with_gold(gold):
    any_box = st.dictionaries(st.integers(0, 76).map(lambda n: n / 2), BOX, max_size=5)
    return st.tuples(any_box, st.sets(st.sampled_from(sorted(gold)))).map(
        lambda pair: pair[0] | {time: gold[time] for time in pair[1]} or {0.0: FAR}
    )


@settings(max_examples=120, deadline=None)
@given(GOLD_BOXES.flatmap(lambda gold: st.tuples(st.just(gold), boxes_with_gold(gold))), st.data())
def test_stg_edits_never_pay(case, data):
    gold, said = case
    free = [n / 2 for n in range(120) if n / 2 not in said]
    junk = dict.fromkeys(data.draw(st.lists(st.sampled_from(free), min_size=1, max_size=40)), FAR)
    time = data.draw(st.sampled_from(sorted(said)))
    text = render_stg(said)
    edited = {
        "junk": render_stg(said | junk),
        "twice": f"{text} {render_stg({time: said[time]})}",
        "everything twice": f"{text} {text}",
        "taken back": f"{text} {render_stg({time: FAR})}",
        "corners exchanged": render_stg(said | {time: said[time][2:] + said[time][:2]}),
        "backwards": " ".join(render_stg({t: said[t]}) for t in sorted(said, reverse=True)),
        "the same later": render_stg(said | {700.0: said[time]}),
    }
    for right in [t for t in said if gold.get(t) == said[t] and len(said) > 1]:
        rivals = [other for other in said if other != right and abs(other - right) <= STRIDE / 2]
        if len(said) <= len(gold) or not rivals:
            edited[f"without {right}"] = render_stg({t: box for t, box in said.items() if t != right})
    before, *after = scores("stg", [text, *edited.values()], stg_truth(gold))
    assert_bounded(before)
    for result in after:
        assert_never_pays(before, result)
    if before["acc"] > 1 - 1e-9:
        assert len(said) == len(gold)
        for asked, box in gold.items():
            assert any(abs(t - asked) <= STRIDE / 2 and said[t] == box for t in said)


@settings(max_examples=60, deadline=None)
@given(GOLD_BOXES.flatmap(lambda gold: st.tuples(st.just(gold), boxes_with_gold(gold))), st.data())
def test_stg_knows_no_order_and_no_size_of_the_canvas(case, data):
    gold, said = case
    family = {"model_family": "qwen3_vl", "processed_size": [224, 112]}
    shuffled = dict(data.draw(st.permutations(sorted(gold.items()))))
    results = [
        scores("stg", [render_stg(said)], truth, family | {"canvas": [1000 * scale] * 2})[0]
        for truth, scale in (
            (stg_truth(gold), 1),
            (stg_truth(shuffled), 1),
            (stg_truth(gold, 2), 2),
            (stg_truth(gold, 0.5), 0.5),
        )
    ]
    for result in results[1:]:
        assert_the_same(results[0], result)
    assert scores("stg", [render_stg(gold)], stg_truth(gold))[0]["score"] == 1


CAPTIONS = ("the hook cuts the duct", "a clip is placed", "the grasper lifts the liver", "a nurse counts swabs")
EVENT = st.builds(lambda span, caption: Event(*span, caption), SPAN, st.sampled_from(CAPTIONS))
GOLD_EVENTS = st.lists(EVENT, min_size=1, max_size=4, unique_by=lambda event: (event.start, event.end))


def dvc_truth(events):
    return {"events": [vars(event) for event in events]}


def events_with_gold(gold):
    return st.lists(st.one_of(EVENT, st.sampled_from(gold)), min_size=1, max_size=5)


def dvc_edits(gold, said, junk, part):
    blank = render_dvc(said).replace(part.caption, "...", 1)
    edited = {
        "twice": render_dvc([*said, part]),
        "everything twice": render_dvc(said * 2),
        "everything twice on one line": " ".join([render_dvc(said).replace("\n", " ")] * 2),
        "junk": render_dvc([*said, *(Event(*span, "cut") for span in junk)]),
        "backwards": render_dvc(said[::-1]),
    }
    for event in [event for event in gold if said.count(event) == 1 and len(said) > 1]:
        span = (event.start, event.end)
        rivals = [e for e in said if e is not event and e != event and span_iou((e.start, e.end), span) > 0]
        if not rivals:
            edited[f"without {event}"] = render_dvc([other for other in said if other != event])
    return edited, blank


@settings(max_examples=100, deadline=None)
@given(GOLD_EVENTS.flatmap(lambda gold: st.tuples(st.just(gold), events_with_gold(gold))), JUNK, st.data())
def test_dvc_edits_never_pay(case, junk, data):
    gold, said = case
    part = data.draw(st.sampled_from(said))
    edited, blank = dvc_edits(gold, said, junk, part)
    before, blanked, *after = scores("dvc", [render_dvc(said), blank, *edited.values()], dvc_truth(gold), INTERVAL)
    assert_bounded(before)
    for result in (blanked, *after):
        assert_never_pays(before, result)
    if before["acc"] > 1 - 1e-9:
        assert len(said) == len(gold)
        assert temporal_f1(said, gold, 0.5, thresholds=(0.7,)) == 1


@settings(max_examples=40, deadline=None)
@given(GOLD_EVENTS, st.lists(EVENT, min_size=1, max_size=4), st.data())
def test_dvc_knows_no_order_no_origin_and_no_unit(gold, said, data):
    shift, factor = data.draw(st.integers(0, 500)), data.draw(st.sampled_from([0.5, 2.0, 4.0]))

    def moved(events):
        return [Event(shift + factor * e.start, shift + factor * e.end, e.caption) for e in events]

    before = scores("dvc", [render_dvc(said)], dvc_truth(gold), INTERVAL)[0]
    assert_the_same(before, scores("dvc", [render_dvc(said)], dvc_truth(data.draw(st.permutations(gold))), INTERVAL)[0])
    other = {"sample_interval": 0.5 * factor}
    assert_the_same(before, scores("dvc", [render_dvc(moved(said))], dvc_truth(moved(gold)), other)[0])


@settings(max_examples=15, deadline=None)
@given(GOLD_EVENTS.flatmap(lambda gold: st.tuples(st.just(gold), events_with_gold(gold))), JUNK, st.data())
def test_dense_captions_edits_never_pay(case, junk, data):
    gold, said = case
    part = data.draw(st.sampled_from(said))
    edited, blank = dvc_edits(gold, said, junk, part)
    edited = {name: text for name, text in edited.items() if "without" not in name}
    before, right, *after = scores(
        "dvc", [render_dvc(said), render_dvc(gold), *edited.values()], dvc_truth(gold), INTERVAL, dvc_captions=True
    )
    assert_bounded(before)
    assert right["score"] == pytest.approx(1)
    for result in after:
        assert_never_pays(before, result)
    less = [render_dvc(gold[1:]), render_dvc(gold).replace(gold[0].caption, "..."), render_dvc([*gold[1:], gold[0]])]
    for result in scores("dvc", less, dvc_truth(gold), INTERVAL, dvc_captions=True):
        assert_never_pays(right, result)


LABELS = sorted({label for labels in label_lists().values() for label in labels})


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(LABELS), st.sampled_from(LABELS), st.data())
def test_nap_is_the_label_or_nothing(gold, other, data):
    start = data.draw(st.integers(0, len(gold) - 1))
    end = data.draw(st.integers(start + 1, len(gold)))
    truth = {"label": gold}
    right, same_words, wrong, *edited = scores(
        "nap",
        [gold, gold.upper().replace("-", " "), other]
        + [f"{gold} {gold}", f"{gold}, {other}", f"{other} {gold}", f"{gold} xyz", gold[::-1], f"x{gold}"]
        + [gold[:start] + gold[end:], gold[:end] + gold[start:end] + gold[end:]],
        truth,
    )
    assert right["score"] == right["acc"] == right["format"] == 1
    assert same_words["acc"] == 1
    folded = fold_label(gold, "CoPESD")
    assert wrong["acc"] == (fold_label(other, "CoPESD") == folded)
    for result in edited[:5]:
        assert result["acc"] == result["score"] == 0
    for result in edited:
        assert_bounded(result)


def component_text(task, scores_by_name):
    end = "" if task == "cvs" else "/5"
    names = CVS_NAMES if task == "cvs" else {aspect: aspect for aspect in ASPECTS}
    return ", ".join(f"{names[key]}: {value}{end}" for key, value in scores_by_name.items())


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(["cvs", "sa"]), st.data())
def test_component_edits_never_pay(task, data):
    names = CVS_COMPONENTS if task == "cvs" else ASPECTS
    value = st.integers(0, 2) if task == "cvs" else st.integers(1, 5)
    gold = {name: data.draw(value) for name in names}
    said = {name: data.draw(value) for name in data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))}
    key = data.draw(st.sampled_from(sorted(said)))
    text, part = component_text(task, said), component_text(task, {key: said[key]})
    edited = {
        "twice": f"{text}, {part}",
        "everything twice": f"{text}\n{text}",
        "junk": f"{text}, Bleeding: 1, Cystic duct: 2/5",
        "junk before": f"xyz 3 {text}",
        "taken back": f"{text}, {component_text(task, {key: 1 if said[key] == 2 else 2})}",
        "blank": text.replace(part, part.partition(":")[0] + ":"),
        "unreadable": text.replace(part, part.replace(": ", ": nan")),
    }
    if len(said) > 1:
        edited["without"] = component_text(task, {k: v for k, v in said.items() if k != key})
    truth = {"scores": gold}
    shuffled = {"scores": dict(data.draw(st.permutations(sorted(gold.items()))))}
    before, backwards, *after = scores(
        task, [text, component_text(task, dict(reversed(said.items()))), *edited.values()], truth
    )
    assert_bounded(before)
    assert_the_same(before, scores(task, [text], shuffled)[0])
    # Told backwards, a list may be in the grammar's order: the format then is better, no signal is.
    for name in ("acc", "raw_exact", "raw_closeness"):
        assert backwards[name] == before[name]
    for result in after:
        assert_never_pays(before, result)
    assert (before["acc"] == 1) == (before["raw_closeness"] == 1) == (said == gold)


SENTENCES = (
    "The surgeon dissects the cystic duct with a hook.",
    "A grasper retracts the gallbladder upward.",
    "No bleeding is visible.",
    "Two clips are placed on the artery.",
    "A nurse washes her hands.",
)
JUNK_TEXT = ("xylophone bluish", "lorem ipsum dolor", "zq zq 77", "Prices rose.")


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["vs", "rc"]),
    st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=4, unique=True),
    st.sampled_from(JUNK_TEXT),
    st.data(),
)
def test_caption_edits_never_pay(task, gold, said, junk, data):
    text, reference = " ".join(said), " ".join(gold)
    part = data.draw(st.sampled_from(said))
    truth = {"text": reference}
    again = [
        f"{text} {part}",
        text.replace(part, f"{part} {part}"),
        f"{text} {text}",
        "\n".join([text] * 5),
        text.rstrip(".") + " " + text,
    ]
    before, *after = scores(task, [text, *again], truth)
    assert_bounded(before)
    for result in after:
        assert_never_pays(before, result)
    # What a cosine does with words on another subject is the model's business; the judge takes them for excess.
    for result in scores(task, [f"{text} {junk}", f"{junk} {text}"], truth):
        assert_never_pays(before, result, ["raw_judge"])
    if part in gold and len(said) > 1:
        without = scores(task, [" ".join(sentence for sentence in said if sentence != part)], truth)[0]
        assert_never_pays(before, without, ["raw_judge"])
    assert (before["acc"] > 1 - 1e-6) == (said == gold)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=4, unique=True), st.data())
def test_no_edit_of_a_right_caption_pays(gold, data):
    reference = " ".join(gold)
    start = data.draw(st.integers(0, len(reference) - 1))
    end = data.draw(st.integers(start + 1, len(reference)))
    words = data.draw(st.permutations(reference.split()))
    right, shuffled, *edited = scores(
        "vs",
        [reference, " ".join(words), reference[:start] + reference[end:], reference[:end] + reference[start:]]
        + [reference[::-1], " ".join(gold[::-1]), f"{reference} {SENTENCES[-1]}", f"assistant: {reference}"],
        {"text": reference},
    )
    assert right["score"] == right["acc"] == right["format"] == 1
    for result in (shuffled, *edited):
        assert_never_pays(right, result)
        assert result["format"] <= 1


@pytest.mark.parametrize("task", TASKS)
@settings(max_examples=25, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_scored_within_bounds(task, text):
    truth = {
        "tal": tal_truth([(1.0, 2.0)]),
        "stg": stg_truth({1.0: (1.0, 2.0, 3.0, 4.0)}),
        "dvc": dvc_truth([Event(1, 2, "cut")]),
        "nap": {"label": "tying"},
        "vs": {"text": "a knot"},
        "rc": {"text": "a knot"},
        "qa": {"text": "a knot"},
        "cvs": {"scores": dict.fromkeys(CVS_COMPONENTS, 1)},
        "sa": {"scores": dict.fromkeys(ASPECTS, 1)},
    }[task]
    assert_bounded(
        scores(task, [text], truth, judge=None)[0] if TASKS[task].text_alone else scores(task, [text], truth)[0]
    )


UNITS = [
    "1-",
    "1 - ",
    "[",
    "[[1, ",
    "9",
    " ",
    "seconds: ",
    "1 seconds: [",
    "1.0-2.0 seconds ",
    "between 1 and ",
    "\n",
    "(",
]
UNITS += [
    "1.0-2.0, ",
    "Two structures",
    "Time and motion: ",
    "Cystic plate:*",
    "<|a",
    "user",
    "1: [1, 2, 3, ",
    "a b ",
    ",",
]
UNITS += ["the next action is ", "1-2 –", "- 1. 1-2", "1s-1s", "\u200b", "1.5"]


@pytest.mark.parametrize("unit", UNITS)
def test_adversarial_text_up_to_the_limit_is_read_in_time(unit):
    # Every repetition in the patterns is bounded. One that is not would take minutes here, not milliseconds.
    for chars in (32_768, 65_536):
        text = (unit * chars)[:chars]
        for parse in PARSERS.values():
            assert parse(text).format in (0, 0.5, 1)
            assert parse(text + "x").format in (0, 0.5, 1)
