# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Words of the synthetic MedVidBench: labels, captions, questions and the official answer forms.

Everything is a pure function of its arguments. The vocabulary is kept small on purpose: the tokenizer of the CPU
run is trained on these sentences. Answer texts are written here rather than with ``reward_score.answers``, so that
the parsers meet text that their own renderer did not produce.
"""

from __future__ import annotations

from collections.abc import Sequence

CHOLECYSTECTOMY = {
    "preparation": "prepares the field and lifts the gallbladder",
    "carlot-triangle-dissection": "dissects the triangle around the cystic duct",
    "clipping-and-cutting": "clips and cuts the cystic duct and artery",
    "gallbladder-dissection": "separates the gallbladder from the liver bed",
    "gallbladder-packaging": "places the gallbladder into the bag",
    "cleaning-and-coagulation": "cleans the liver bed and stops the bleeding",
    "gallbladder-extraction": "takes the bag with the gallbladder out",
}

# Label -> what is being done, in the order of the official label lists (which decides a label's colour).
CLAUSES: dict[str, dict[str, str]] = {
    "AVOS": {
        "cutting": "cuts the tissue with sharp scissors",
        "tying": "ties a knot in the thread by hand",
        "suturing": "closes the wound with needle and thread",
    },
    "CholecT50": CHOLECYSTECTOMY,
    "CholecTrack20": CHOLECYSTECTOMY,
    "CoPESD": {
        "adjust camera": "moves the camera to see the lesion",
        "position flap with forceps and knife": "places the flap with forceps and knife",
        "dissect flap tissue with knife": "dissects tissue under the flap with the knife",
        "position flap with forceps only": "places the flap with the forceps alone",
        "retract flap edge with forceps only": "pulls the flap edge back with the forceps",
        "retract flap edge with forceps and knife": "pulls the flap edge back with both instruments",
        "lift flap with forceps": "lifts the flap away from the muscle",
        "stabilize flap with forceps": "holds the flap still with the forceps",
    },
    "EgoSurgery": {
        "disinfection": "cleans the skin with iodine before surgery",
        "design": "draws the incision line on the skin",
        "anesthesia": "injects the anesthetic under the skin",
        "incision": "opens the skin along the line",
        "dissection": "separates the tissue layer by layer",
        "hemostasis": "stops the bleeding with the bipolar forceps",
        "irrigation": "rinses the wound with warm saline",
        "closure": "closes the skin with fine stitches",
        "dressing": "covers the wound with a dry dressing",
    },
}

# One procedure per video; a procedure's first label continues the palette where the one before it ended.
PROCEDURES: dict[str, dict[str, str]] = {
    "Bed Shampoo": {
        "Apply shampoo": "rubs shampoo into the wet hair",
        "Comb hair": "combs the hair of the patient",
        "Dry hair": "dries the hair with a towel",
        "Moisten hair": "wets the hair with warm water",
        "Place an underpad": "puts an underpad below the head",
        "Rinse shampoo": "rinses the foam out with water",
    },
    "Blood Glucose Monitoring": {
        "Disinfect skin": "cleans the finger with alcohol",
        "Document": "writes the value on the chart",
        "Handwashing": "washes both hands with soap",
        "Measure blood glucose level": "touches the strip to the blood drop",
        "Prepare glucometer": "puts a strip into the meter",
    },
    "Defibrillation": {
        "Defibrillate": "presses the paddles and gives the shock",
        "Observe defibrillation results": "watches the rhythm on the screen",
        "Prepare defibrillation device": "turns the device on and adds gel",
    },
}

INSTRUMENTS: dict[str, tuple[str, ...]] = {
    "CholecTrack20": ("grasper", "hook", "clipper", "bipolar", "scissors", "irrigator"),
    "CoPESD": ("forceps", "knife"),
    "EgoSurgery": ("scissors", "tweezers", "scalpel", "needle holder", "bipolar", "suction"),
}

CVS_NAMES = {
    "two_structures": "Two structures",
    "cystic_plate": "Cystic plate",
    "hepatocystic_triangle": "Hepatocystic triangle",
}
SKILL_ASPECTS = (
    "Respect for tissue",
    "Suture/needle handling",
    "Time and motion",
    "Flow of operation",
    "Overall performance",
    "Quality of final product",
)

_ROLES = (
    "You are an expert in {field} video.",
    "You read {field} video for teaching.",
    "As an expert, watch this {field} video.",
)
_DATASETS = ("The clip is from {source}.", "This clip belongs to {source}.", "Dataset: {source}.")
_TASKS = {
    "tal": (
        "The actions are: {labels}. When does {target} take place?",
        "Listed actions: {labels}. Give the time span of {target}.",
        "Among the actions {labels}, find when {target} is seen.",
    ),
    "stg": (
        "Give the box of the {target} from {start} to {end} seconds, every {stride} seconds.",
        "Locate the {target} between {start} and {end} seconds, every {stride} seconds.",
        "Track the {target} from {start} to {end} seconds with a box every {stride} seconds.",
    ),
    "dvc": (
        "Describe every event with its start and end time.",
        "List the events with time spans and one sentence each.",
        "What happens, and when? Describe each event.",
    ),
    "nap": (
        "Which action comes next? Options: {options}",
        "Choose the next action from {options}",
        "What will be done next? Answer with one of {options}",
    ),
    "vs": ("Summarize the clip.", "Write a short summary of the procedure.", "What is done in this clip?"),
    "rc": (
        "What does the object in the bounding box at {time} seconds do?",
        "Describe the region inside the bounding box at {time} seconds.",
    ),
    "cvs": (
        "Score two structures, cystic plate and hepatocystic triangle from 0 to 2.",
        "Rate the critical view of safety: two structures, cystic plate, hepatocystic triangle, each 0 to 2.",
    ),
    "sa": (
        "Rate six aspects of skill from 1 to 5: {aspects}.",
        "Give a skill score from 1 to 5 for {aspects}.",
    ),
    "qa": ("What is done {when} in this clip?", "Say what is done {when}.", "Which step is seen {when}?"),
}


def clauses_of(source: str, procedure: str | None = None) -> dict[str, str]:
    """Labels of ``source`` (for NurViD, of ``procedure``) with what is being done, in official order."""
    return PROCEDURES[procedure] if procedure else CLAUSES[source]


def question(task: str, source: str, pick: Sequence[int], **fields: object) -> str:
    """The human turn: ``<video>``, a role, a dataset and a task sentence.

    ``pick`` holds three non-negative integers, one per sentence; ``fields`` fills the task sentence.
    """
    field = "nursing" if source == "NurViD" else "surgical"
    role = _ROLES[pick[0] % len(_ROLES)].format(field=field)
    dataset = _DATASETS[pick[1] % len(_DATASETS)].format(source=source)
    asked = _TASKS[task][pick[2] % len(_TASKS[task])].format(**fields)
    return f"<video>\n{role} {dataset} {asked}"


def actor(source: str) -> str:
    """Who acts in videos of ``source``."""
    return "nurse" if source == "NurViD" else "surgeon"


def caption(source: str, label: str, clause: str, wording: int) -> str:
    """One event's caption; NurViD puts the action's name before it, as its official captions do."""
    sentence = f"The {actor(source)} {clause}." if wording % 2 == 0 else f"Here the {actor(source)} {clause}."
    return f"{label.lower()}: {sentence}" if source == "NurViD" else sentence


def summary(source: str, clauses: Sequence[str]) -> str:
    """A paragraph over the clauses in order; the same clause may come twice."""
    lead = f"First the {actor(source)} {clauses[0]}."
    rest = [f"Then the {actor(source)} {clause}." for clause in clauses[1:]]
    return " ".join([lead, *rest])


def region(source: str, instrument: str, clause: str) -> str:
    """The region caption: which instrument is in the box and what is being done with it."""
    return f"The {actor(source)} uses the {instrument} and {clause}."


def still(instrument: str, clause: str, place: str) -> str:
    """The caption of a region of a single frame: which instrument is where, and in what it is seen."""
    return f"The {instrument} is in the {place} of the picture, seen while it {clause}."


def place(x: float, y: float, canvas: Sequence[int]) -> str:
    """A ninth of the canvas in words, `upper left` to `lower right`; the middle one is the centre."""
    rows, columns = ("upper", "", "lower"), ("left", "", "right")
    named = [rows[min(2, int(3 * y / canvas[1]))], columns[min(2, int(3 * x / canvas[0]))]]
    return " ".join(filter(None, [*named, "part"])) if any(named) else "centre"


def step(source: str, when: str, clause: str) -> str:
    """The answer to the question what is done at a moment."""
    return f"{when.capitalize()} the {actor(source)} {clause}."


def spans_text(spans: Sequence[Sequence[float]]) -> str:
    """``22.0-78.0, 89.0-94.0 seconds.``"""
    return ", ".join(f"{start:.1f}-{end:.1f}" for start, end in spans) + " seconds."


def boxes_text(boxes: Sequence[tuple[float, Sequence[float]]]) -> str:
    """``66.0 seconds: [117.54, 339.56, 626.88, 1005.62] 74.0 seconds: [...]``, numbers as they are given."""
    return " ".join(f"{time:.1f} seconds: [{', '.join(str(value) for value in box)}]" for time, box in boxes)


def events_text(events: Sequence[tuple[float, float, str]]) -> str:
    """One event a line, ``0.0-88.0 seconds: caption``."""
    return "\n".join(f"{start:.1f}-{end:.1f} seconds: {text}" for start, end, text in events)


def cvs_text(scores: Sequence[int]) -> str:
    """``Two structures: 2, Cystic plate: 1, Hepatocystic triangle: 0``"""
    return ", ".join(f"{name}: {score}" for name, score in zip(CVS_NAMES.values(), scores, strict=True))


def skill_text(scores: Sequence[int]) -> str:
    """``Respect for tissue: 2/5, Suture/needle handling: 1/5, ...``"""
    return ", ".join(f"{aspect}: {score}/5" for aspect, score in zip(SKILL_ASPECTS, scores, strict=True))
