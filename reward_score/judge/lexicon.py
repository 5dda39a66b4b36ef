# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Word lists and a light stemmer for the offline judge. Words are listed as one writes them and compared as stems."""

from __future__ import annotations

from functools import lru_cache

STOP_WORDS = frozenset(
    """
    a an the this that these those it its it's he she his her their they them we our you your i who which what there
    and or but so as if then than while when where also both each all any some such same
    of in on at to from into onto by with for over under about between during after before through within
    is are was were be been being am do does did has have had can could may might will would shall should must
    up down out off here now very just more most other another one's
    """.split()
)
_NEGATIONS = frozenset(["no", "not", "never", "without", "none", "neither", "nor", "cannot", "absent", "lacks"])

_TERM_PREFIXES = tuple(
    """
    abdom adhes anast aneurysm angi append arter aspir bile bili biops bladder cannul cardi catheter cauter chole
    clip coagul colect colon cyst debrid dissect diverticul duct duoden electro endoscop epithel fascia fistul
    gallbladder gastr hemo haemo hepat hernia ileum incis inject intub irrigat jejun kidney knot laparo ligat liver
    lymph mesent mucos muscl necro nephr nerve omentum pancrea perfor perit pleur resect retract sigmoid skin sperm
    splen spleen stapl steril submuc surg sutur thorac thyr tissue tourniquet trocar ureter uter vein venous vessel
    vascular wound
    """.split()
)
_NO_VERBS_IN_ING_OR_ED = frozenset("string ring king wing thing nothing anything everything bed red need seed".split())


@lru_cache(maxsize=16_384)
def stem(word: str) -> str:
    """A crude stem, enough that grasps, grasped and grasping meet. ``word`` is lower-case."""
    word = word.removesuffix("'s")
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if word not in _NO_VERBS_IN_ING_OR_ED:
        for ending in ("ing", "ed"):
            base = word.removesuffix(ending)
            if base != word and len(base) > 2:
                doubled = base[-1] == base[-2] and base[-1] not in "lsz"
                word = base[:-1] if doubled else base
                break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def is_negation(word: str) -> bool:
    """True for not, no, without, isn't and their like."""
    return word in _NEGATIONS or word.endswith("n't")


def is_term(base: str) -> bool:
    """True for a stem that looks like a technical term: a medical beginning, or a long and not a common word."""
    return base.startswith(_TERM_PREFIXES) or (len(base) >= 9 and base not in _COMMON_STEMS)


def is_instrument_or_anatomy(base: str) -> bool:
    """True for the stem of an instrument or an anatomical structure of the list."""
    return base in _INSTRUMENTS_ANATOMY


def is_action(word: str, base: str) -> bool:
    """True for a listed action or state, or a word in -ing or -ed."""
    return base in _ACTIONS or (len(word) > 4 and word.endswith(("ing", "ed")) and word not in _NO_VERBS_IN_ING_OR_ED)


def _stems(words: str) -> frozenset[str]:
    return frozenset(stem(word) for word in words.split())


_COMMON_STEMS = _stems(
    """
    following different appears appearing continues continuing performing performed performs something approximately
    currently carefully throughout including subsequently additional remaining afterwards beginning completely
    surrounding positioned important
    """
)
_INSTRUMENTS_ANATOMY = _stems(
    """
    instrument tool grasper forceps tweezers bipolar hook scissors clipper applier irrigator aspirator suction specimen
    bag needle driver holder suture thread scalpel knife blade retractor trocar stapler clip gauze sponge drain catheter
    cannula syringe electrocautery cautery gag raspatory skewer drill pencil mallet chisel hand glove endoscope camera
    snare robot arm loop tube tubing mask swab tourniquet
    gallbladder cystic duct artery vein plate triangle hepatocystic calot liver hepatic bile biliary omentum peritoneum
    bowel colon intestine stomach gut abdomen abdominal wall cavity tissue fluid blood vessel nerve muscle fascia fat
    skin bone mucosa submucosa lesion tumor tumour polyp adhesion wound breast thyroid gland kidney ureter spleen
    pancreas uterus pelvis lung heart chest head neck eye ear nose mouth finger leg foot organ pedicle bladder anatomy
    structure quadrant
    """
)
_ACTIONS = _stems(
    """
    grasp grip hold pull push lift retract expose dissect cut clip coagulate cauterize burn irrigate aspirate suck
    clean wash pack place insert remove withdraw introduce move rotate turn tie knot suture stitch pierce transfer pass
    reach drive pick drop release open close clamp ligate transect resect excise separate peel divide staple seal inject
    mark identify inspect visualize bleed leak perforate tear visible idle intact complete incise disinfect drape wipe
    apply tighten loosen orient position approach touch stabilize hang squeeze massage connect disconnect measure fix
    bandage intubate saw hammer elevate depress manipulate stretch
    """
)
