# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The structured ground truth of a row, checked against its answer text.

By default the structure (`struc_info`) decides over times, boxes and scores, and the text over captions and the next
action. Where the two differ beyond rounding, the row is flagged, whichever of them is used:

* `text_disagrees`: times, boxes or scores differ;
* `text_rewritten`: they are the same, but the text does not follow the task's grammar;
* `caption_disagrees`: an event's caption in the text is not the structure's, nor ends with it;
* `text_unreadable`: nothing can be read from the text, the structure is used;
* `from_text`: there is no structure, the text is used;
* `more_than_one_object`: an oddity of the structure itself;
* `unseen_characters`: the text or a caption held characters that are not seen, which are taken out;
* `time_clipped`: a time slightly before the clip, which no answer can say, became 0.

A text is a truth only where it follows the task's grammar. What the lenient reading of model answers makes of other
texts is a guess, good enough to see that it agrees with the structure, and no more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import sub
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, FiniteFloat, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from data_preprocess.wording import short
from reward_score.answers import ASPECTS, CVS_COMPONENTS, PARSERS, Event, render_cvs, render_dvc, render_sa, render_tal

TRUTHS = ("structure", "text")
"""Which of structure and text decides over times, boxes and scores where both are there and differ."""
MAX_TEXT = 1_000_000
"""Characters of a question, an answer or a caption; the longest known have some 8,000."""

# Answers round times and boxes to one or two decimals; anything beyond that is another answer.
_ROUNDING = 0.051

Ground = tuple[str, dict[str, Any], tuple[str, ...]]
"""(answer to learn, ground truth as it goes to the reward, flags)."""


class ShapeError(ValueError):
    """A value of an unknown shape, before its file and row are known: `key`, `expected`, `found` as one short line."""

    def __init__(self, key: str, expected: str, found: Any):
        super().__init__(key, expected, found)
        self.key, self.expected, self.found = key, expected, short(found)


def shape_error(error: ValidationError, prefix: str = "") -> ShapeError:
    """The first of pydantic's complaints as a `ShapeError`."""
    first = error.errors(include_url=False, include_context=False)[0]
    key = ".".join([prefix] * bool(prefix) + [short(str(part), 40) for part in first["loc"]])
    if first["type"] == "missing":
        return ShapeError(key, "this key", "nothing")
    expected = first["msg"].removeprefix("Input should be ").replace(f" or instance of {error.title}", "")
    return ShapeError(
        key,
        expected[0].lower() + expected[1:],
        first["input"] if isinstance(first["input"], dict | list) else repr(first["input"]),
    )


def check(adapter: Any, value: Any, prefix: str = "") -> Any:
    """`value` validated by a pydantic model or `TypeAdapter`.

    Raises:
        ShapeError: it is of another shape; `prefix` goes before the key.
    """
    try:
        return adapter.validate_python(value) if isinstance(adapter, TypeAdapter) else adapter.model_validate(value)
    except ValidationError as error:
        raise shape_error(error, prefix) from None


def _plain_number(value: Any) -> Any:
    """A value as it is, unless Python alone takes it for a number: a boolean, or digits like `1_0`."""
    if isinstance(value, bool) or (isinstance(value, str) and ("_" in value or not value.isascii())):
        raise PydanticCustomError("number", "Input should be a valid number")
    return value


def _plain_numbers(values: Any) -> Any:
    """A list as it is; one with a boolean in it, or with digits like `1_0`, is refused."""
    if isinstance(values, list) and not {int, float}.issuperset(map(type, values)):
        if bool in map(type, values):
            raise PydanticCustomError("numbers", "Input should be numbers, no booleans")
        return [_plain_number(value) for value in values]
    return values


Number = Annotated[FiniteFloat, BeforeValidator(_plain_number)]
Box = Annotated[list[FiniteFloat], Field(min_length=4, max_length=4), BeforeValidator(_plain_numbers)]
_Whole = Annotated[int, BeforeValidator(_plain_number)]
_Caption = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_TEXT)]


class Bounds(BaseModel):
    """Clip seconds from and to."""

    start: Number
    end: Number


class _Segment(Bounds):
    caption: _Caption


class _Grounding(BaseModel):
    spans: Annotated[list[Bounds], Field(min_length=1)]


class _Boxes(Bounds):
    stride: Annotated[Number, Field(gt=0)]
    object: str
    bbox_dict: Annotated[dict[Number, Box], Field(min_length=1)]


class _Skill(BaseModel):
    skill_scores: dict[str, Any]


class _Cvs(BaseModel):
    cvs_scores: dict[str, Any]


_GROUNDINGS = TypeAdapter(Annotated[list[_Grounding], Field(min_length=1)])
_SEGMENTS = TypeAdapter(Annotated[list[_Segment], Field(min_length=1)])
_ZERO_TO_TWO = TypeAdapter(Annotated[_Whole, Field(ge=0, le=2)])
_ONE_TO_FIVE = TypeAdapter(Annotated[_Whole, Field(ge=1, le=5)])
_ANSWER = "conversations.1.value"


def _items(structure: Any) -> Any:
    """`struc_info` as a list; a lone dict counts as a list of one."""
    return [structure] if isinstance(structure, dict) else structure


def _first(structure: Any) -> Any:
    items = _items(structure)
    if not isinstance(items, list) or not items:
        raise ShapeError("struc_info", "a list with an object", structure)
    return items[0]


@dataclass(frozen=True)
class _Text:
    """An answer's text, tidied; what can be read from it, empty for nothing; whether it follows the grammar."""

    answer: str
    said: Any
    whole: bool


def _read(task: str, answer: str, structure: Any, expected: str = "") -> _Text:
    """The text of an answer, each line without needless white space; without a structure it must be of the grammar."""
    tidy = "\n".join(" ".join(line.split()) for line in answer.strip().splitlines())
    parsed = PARSERS[task](tidy)
    if parsed.format < 1 and structure is None:
        raise ShapeError(_ANSWER, expected or f"an answer of the {task} grammar, or struc_info", answer)
    return _Text(tidy, parsed.value, parsed.format == 1)


def seen(text: str) -> str:
    """A text without control characters and characters that are not seen (zero width, marks of direction)."""
    if text.replace("\n", " ").isprintable():
        return text
    return "".join(letter for letter in text if letter.isprintable() or letter.isspace())


def _in_order(bounds: Sequence[tuple[float, float]], key: str) -> None:
    for start, end in bounds:
        if start > end:
            raise ShapeError(key, "no start behind its end", f"{start:g} to {end:g} seconds")


def _near(left: Iterable[float], right: Iterable[float]) -> bool:
    """Whether numbers, as many left as right, are the same but for rounding."""
    return max(map(abs, map(sub, left, right)), default=0.0) <= _ROUNDING


def _flat(items: Iterable[Iterable[float]]) -> Iterable[float]:
    return chain.from_iterable(items)


def _verdict(answer: str, text: _Text, agree: bool) -> list[str]:
    """The flag of a text beside a structure."""
    if agree:
        return [] if text.whole and text.answer == answer.strip() else ["text_rewritten"]
    return ["text_disagrees"] if text.said else ["text_unreadable"]


def _tal(answer: str, structure: Any, truth: str) -> Ground:
    text = _read("tal", answer, structure)
    said = text.said
    if structure is None:
        _in_order(said, _ANSWER)
        return text.answer, {"text": answer, "spans": [list(span) for span in said]}, ("from_text",)
    groups = check(_GROUNDINGS, _items(structure), "struc_info")
    spans = [(span.start, span.end) for group in groups for span in group.spans]
    _in_order(spans, "struc_info")
    agree = len(said) == len(spans) and _near(_flat(sorted(said)), _flat(sorted(spans)))
    flags = _verdict(answer, text, agree)
    if truth == "text" and text.whole:
        _in_order(said, _ANSWER)
        spans, agree = said, True
    ground = {"text": answer, "spans": [list(span) for span in spans]}
    return text.answer if agree and text.whole else render_tal(spans), ground, tuple(flags)


def _stg(answer: str, structure: Any, truth: str) -> Ground:
    text = _read("stg", answer, structure)
    said = text.said
    if structure is None:
        # Without the structure, the stride of the asked grid is what the answer's own times show.
        boxes, times, flags = said, sorted(said), ["from_text"]
        gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
        start, end, stride, thing = times[0], times[-1], min(gaps, default=1.0), ""
    else:
        shape = check(_Boxes, _first(structure), "struc_info.0")
        boxes = {time: tuple(box) for time, box in shape.bbox_dict.items()}
        if len(boxes) != len(_first(structure)["bbox_dict"]):
            raise ShapeError("struc_info.0.bbox_dict", "each time once", f"{list(_first(structure)['bbox_dict'])}")
        start, end, stride, thing = shape.start, shape.end, shape.stride, shape.object
        _in_order([(start, end)], "struc_info.0")
        agree = (
            len(said) == len(boxes)
            and _near(sorted(said), sorted(boxes))
            and _near(_flat(said[time] for time in sorted(said)), _flat(boxes[time] for time in sorted(boxes)))
        )
        # The target is written anew in any case, in the space of the model.
        flags = [] if agree else _verdict(answer, text, agree)
        if len(_items(structure)) > 1:
            flags.append("more_than_one_object")
        if truth == "text" and text.whole:
            boxes = said
    ground = {
        "text": answer,
        "boxes": {str(time): list(boxes[time]) for time in sorted(boxes)},
        "start": start,
        "end": end,
        "stride": stride,
        "object": thing,
    }
    return answer, ground, tuple(flags)


def _segments(structure: Any) -> tuple[list[Event], bool]:
    """The events of `struc_info`, which is a list, a list in a list, or under `dc_segments`.

    With them comes whether a caption held characters that are not seen; they are taken out.
    """
    items = _items(structure)
    if isinstance(items, list) and items:
        if all(isinstance(item, dict) and "dc_segments" in item for item in items):
            items = [item["dc_segments"] for item in items]
        if all(isinstance(item, list) for item in items):
            items = [segment for item in items for segment in item]
    segments = check(_SEGMENTS, items, "struc_info")
    events = [Event(item.start, item.end, seen(item.caption)) for item in segments]
    _in_order([_when(event) for event in events], "struc_info")
    return events, any(item.caption != event.caption for item, event in zip(segments, events, strict=True))


def _same_caption(said: str, given: str) -> bool:
    """NurViD's text carries the action before the caption, and white space may differ."""
    return said.endswith(given) or _words(said)[-len(_words(given)) :] == _words(given)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _when(event: Event) -> tuple[float, float]:
    return event.start, event.end


def _dvc(answer: str, structure: Any, truth: str) -> Ground:
    text = _read("dvc", answer, structure)
    said: list[Event] = text.said
    if structure is None:
        _in_order([_when(event) for event in said], _ANSWER)
        return text.answer, _events_ground(answer, said), ("from_text",)
    events, cleaned = _segments(structure)
    pairs: list[tuple[Event, Event]] = []
    if len(said) == len(events):
        pairs = list(zip(sorted(said, key=_when), sorted(events, key=_when), strict=True))
    agree = bool(pairs) and _near(_flat(_when(a) for a, _ in pairs), _flat(_when(b) for _, b in pairs))
    flags = [*_verdict(answer, text, agree), *["unseen_characters"] * cleaned]
    if not all(_same_caption(a.caption, b.caption) for a, b in pairs):
        flags.append("caption_disagrees")
    if truth == "text" and text.whole:
        _in_order([_when(event) for event in said], _ANSWER)
        return text.answer, _events_ground(answer, said), tuple(flags)
    if text.whole and pairs and (agree or all(a.start <= b.end and b.start <= a.end for a, b in pairs)):
        # The text's captions are the ones to learn, the structure's times are not rounded. Events that share no time
        # are not each other's: then the structure's own captions stay with its times.
        events = [Event(b.start, b.end, a.caption) for a, b in pairs]
    return text.answer if agree and text.whole else render_dvc(events), _events_ground(answer, events), tuple(flags)


def _events_ground(answer: str, events: list[Event]) -> dict[str, Any]:
    return {"text": answer, "events": [{"start": e.start, "end": e.end, "caption": e.caption} for e in events]}


def _named(scores: dict[str, Any], names: dict[str, str], number: TypeAdapter, key: str) -> dict[str, int]:
    """The scores of `names` (spelling to name), each checked; what else is scored does not matter here."""
    found: dict[str, int] = {}
    for spelling, score in scores.items():
        name = names.get(" ".join(re.findall("[a-z]+", spelling.lower())))
        if name is None:
            continue
        score = check(number, score, f"{key}.{spelling}")
        if found.setdefault(name, score) != score:
            raise ShapeError(f"{key}.{spelling}", "one score for each name", f"{found[name]} and {score}")
    missing = [name for name in names.values() if name not in found]
    if missing:
        raise ShapeError(key, f"scores for {', '.join(names.values())}", f"none for {', '.join(missing)}")
    return found


_CVS_SPELLINGS = {name.replace("_", " "): name for name in CVS_COMPONENTS}
_ASPECT_SPELLINGS = {aspect.lower().replace("/", " "): aspect for aspect in ASPECTS}


def _scores(
    task: str,
    shape: type[BaseModel],
    spellings: dict[str, str],
    number: TypeAdapter,
    render: Callable[[dict[str, int]], str],
    answer: str,
    structure: Any,
    truth: str,
) -> Ground:
    """Ground truth of a task that scores names: `shape` has one field, the scores by any spelling of them."""
    names = tuple(spellings.values())
    text = _read(task, answer, structure, f"scores for {', '.join(names)} in the {task} grammar")
    said = text.said
    if structure is None:
        return text.answer, {"text": answer, "scores": {name: said[name] for name in names}}, ("from_text",)
    (field,) = shape.model_fields
    given = getattr(check(shape, _first(structure), "struc_info.0"), field)
    scores = _named(given, spellings, number, f"struc_info.0.{field}")
    flags = tuple(_verdict(answer, text, said == scores))
    if truth == "text" and text.whole:
        scores = said
    ground = {"text": answer, "scores": {name: scores[name] for name in names}}
    return text.answer if said == scores and text.whole else render(scores), ground, flags


_cvs = partial(_scores, "cvs", _Cvs, _CVS_SPELLINGS, _ZERO_TO_TWO, render_cvs)
_sa = partial(_scores, "sa", _Skill, _ASPECT_SPELLINGS, _ONE_TO_FIVE, render_sa)


def _nap(answer: str, structure: Any, truth: str) -> Ground:
    return answer, {"text": answer, "label": _not_blank(answer)}, ()


def _caption(answer: str, structure: Any, truth: str) -> Ground:
    _not_blank(answer)
    return answer, {"text": answer}, ()


def _not_blank(answer: str) -> str:
    words = " ".join(answer.split())
    if not words:
        raise ShapeError(_ANSWER, "an answer", "a blank")
    return words


GROUND: dict[str, Callable[[str, Any, str], Ground]] = {
    "tal": _tal,
    "stg": _stg,
    "dvc": _dvc,
    "nap": _nap,
    "vs": _caption,
    "rc": _caption,
    "qa": _caption,
    "sa": _sa,
    "cvs": _cvs,
}
"""By task: (answer text, `struc_info` or None, one of `TRUTHS`) to `Ground`; raises `ShapeError`.

The answer to learn is the text as given where it says what the ground truth says, and is written anew where it does
not. For stg it is the text always: boxes are written anew anyway, in the space of the model.
"""


def gold_times(ground: dict[str, Any]) -> list[float]:
    """Every time (clip seconds) that a ground truth names: bounds of spans and events, times of boxes."""
    if "spans" in ground:
        return list(_flat(ground["spans"]))
    if "events" in ground:
        return [time for event in ground["events"] for time in (event["start"], event["end"])]
    return [float(time) for time in ground.get("boxes", ())]


def outside_clip(times: Sequence[float], seconds: float, tolerance: float) -> float:
    """By how many seconds the worst of some gold times lies outside a clip of `seconds`; 0.0 within `tolerance`."""
    return max(0.0, -tolerance - min(times), max(times) - seconds - tolerance) if times else 0.0


def from_the_start(task: str, answer: str, ground: dict[str, Any], tolerance: float) -> tuple[str, bool]:
    """Moves times from `-tolerance` to 0 seconds to the clip's start, in place.

    Returns:
        The answer to learn, written anew where a time was moved, and whether one was. For stg it is the text always.
    """
    times = gold_times(ground)
    if not times or min(times) >= 0 or min(times) < -tolerance:
        return answer, False
    if "spans" in ground:
        ground["spans"] = [[max(0.0, time) for time in span] for span in ground["spans"]]
        return render_tal([(start, end) for start, end in ground["spans"]]), True
    if "events" in ground:
        for event in ground["events"]:
            event.update(start=max(0.0, event["start"]), end=max(0.0, event["end"]))
        return render_dvc([Event(**event) for event in ground["events"]]), True
    moved = {str(max(0.0, float(time))): box for time, box in ground["boxes"].items()}
    if len(moved) < len(ground["boxes"]):
        raise ShapeError("struc_info", "one time at the clip's start", f"{min(times):g} and another")
    ground["boxes"], ground["start"] = moved, max(0.0, ground["start"])
    return answer, True
