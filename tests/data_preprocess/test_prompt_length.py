# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Counted prompt lengths against what the model families' own processors make of the same rows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_preprocess.chat import build_prompt
from data_preprocess.prompt_length import LEAST_FRAMES, THIN_POLICIES, PromptLength, TokenizerError, stamps
from data_preprocess.timeline import exact, thin, uniform
from reward_score.conventions import CONVENTIONS

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "You are an expert. Between 12.0 and 40.0 seconds, where is the grasper?"
SYSTEM_BY_DEFAULT = (
    "{%- if messages[0]['role'] != 'system' -%}{{- '<|im_start|>system\\nYou help.<|im_end|>\\n' -}}{%- endif -%}"
)


def parts(content):
    """A turn's text with its clip set apart, as training does it."""
    before, clip, after = content.partition("<video>")
    texts = [{"type": "text", "text": text} for text in (before, after)]
    return [part for part in (texts[0], *([{"type": "video"}] if clip else []), texts[1]) if part.get("text", clip)]


@dataclass
class Real:
    """A family's processor, and the counter of the folder it was saved in."""

    family: str
    processor: object
    folder: str
    length: PromptLength

    def size(self, across=3, down=2):
        return across * CONVENTIONS[self.family].cell, down * CONVENTIONS[self.family].cell

    def tokens(self, prompt, size, times=None, count=0, fps=1.0):
        """Tokens of the processor's own output; frames at whole ticks of `fps`, or each at a time of its own."""
        import torch

        places = list(range(count)) if times is None else list(times)
        # As the training side hands a clip over: an even number of frames, the copy at the time of its original.
        places += places[-1:] * (len(places) % 2)
        metadata = {"fps": float(fps), "frames_indices": places, "total_num_frames": len(places)}
        frames = torch.zeros(len(places), 3, size[1], size[0], dtype=torch.uint8)
        messages = [{"role": turn["role"], "content": parts(turn["content"])} for turn in prompt]
        told = CONVENTIONS[self.family].template
        text = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **told)
        inputs = self.processor(
            text=[text], videos=[frames], video_metadata=[metadata], do_sample_frames=False, return_tensors="pt"
        )
        return inputs["input_ids"].shape[1]


@pytest.fixture(scope="module")
def processors(tmp_path_factory):
    import torch

    from recipes.medgrpo import tiny_model

    torch.set_num_threads(1)
    made = {}
    for family in CONVENTIONS:
        tokenizer = tiny_model.train_tokenizer([QUESTION, "<12.5 seconds> <0.0 seconds>", "Watch this: <x>"], 400)
        _, processor = tiny_model.build(family, tokenizer, hidden=32, layers=1)
        folder = str(tmp_path_factory.mktemp(family))
        processor.save_pretrained(folder)
        made[family] = Real(family, processor, folder, PromptLength(folder, family))
    return made


@pytest.fixture(params=sorted(CONVENTIONS))
def real(request, processors):
    return processors[request.param]


@pytest.fixture
def qwen3(processors):
    return processors["qwen3_vl"]


PROMPTS = [
    build_prompt("stg", QUESTION, system="none"),
    build_prompt("stg", QUESTION, system="all", family="qwen3_vl"),
    build_prompt("cvs", "Score the view.\n\nÄ ⚕ 12\n", system="missing", one_shot=True, seed=1, key="f.json\0" + "7"),
    # Text right before the clip meets the first time stamp there.
    [{"role": "user", "content": f"Watch this: <video> {QUESTION}"}],
    [{"role": "user", "content": "<video>"}],
]


@settings(max_examples=25, deadline=None)
@given(
    prompt=st.sampled_from(PROMPTS),
    across=st.integers(1, 4),
    down=st.integers(1, 3),
    frames=st.integers(1, 45),
    fps=st.sampled_from([0.1, 0.3, 0.5, 1.0, 2 / 3, 2.0, 3.0]),
)
@pytest.mark.parametrize("family", sorted(CONVENTIONS))
def test_uniform_lists(processors, family, prompt, across, down, frames, fps):
    real = processors[family]
    size = real.size(across, down)
    line = uniform([tick / fps for tick in range(frames)], fps)
    assert len(line.picks) == frames
    assert real.length(prompt, size, line.times, line.sample_fps) == real.tokens(prompt, size, count=frames, fps=fps)


@settings(max_examples=25, deadline=None)
@given(
    prompt=st.sampled_from(PROMPTS),
    steps=st.lists(st.floats(0, 97, allow_subnormal=False), max_size=30),
)
def test_every_frame_at_its_own_time(processors, prompt, steps):
    """Holes, repeats, odd counts and times of any length: only Qwen3-VL is told them."""
    real, times = processors["qwen3_vl"], [0.0]
    for step in steps:
        times.append(times[-1] + step)
    line = exact(times, 0.5)
    assert real.length(prompt, real.size(), line.times, line.sample_fps) == real.tokens(prompt, real.size(), line.times)


@pytest.mark.parametrize("policy", ["uniform", "ends"])
def test_thinned_lists(real, policy):
    """The times of a thinned list are no whole seconds; its rate is what the row stores."""
    for times, fps in (([2.0 * i for i in range(31)], 0.5), ([0.0, 1.0, 1.5, 2.0, 9.0, 10.0, 30.0], 1.0)):
        for frames in (2, 5, 6):
            line = thin(uniform(times, fps), frames, policy)
            count = len(line.picks)
            assert real.length(PROMPTS[0], real.size(), line.times, line.sample_fps) == real.tokens(
                PROMPTS[0], real.size(), count=count, fps=line.sample_fps
            )


def test_stamps_are_the_mean_of_two_frames():
    assert stamps([0.0, 2.0, 4.0, 6.5]) == ["<1.0 seconds>", "<5.2 seconds>"]
    assert stamps([0.0, 2.0, 4.0]) == ["<1.0 seconds>", "<4.0 seconds>"]
    assert stamps([7.0]) == ["<7.0 seconds>"]


def test_a_template_that_adds_a_system_message_is_followed(real, tmp_path):
    """As Qwen2.5-VL's does; an older model keeps it in a file that only the processor reads."""
    folder, own = tmp_path / "model", real.processor.chat_template
    shutil.copytree(real.folder, folder)
    template = SYSTEM_BY_DEFAULT + own
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    length = PromptLength(folder, real.family)
    plain = real.length(PROMPTS[0], real.size(), [0.0, 1.0], 1.0)
    try:
        real.processor.chat_template = template
        assert length(PROMPTS[0], real.size(), [0.0, 1.0], 1.0) == real.tokens(PROMPTS[0], real.size(), count=2) > plain
        assert length(PROMPTS[1], real.size(), [0.0, 1.0], 1.0) == real.tokens(PROMPTS[1], real.size(), count=2)
    finally:
        real.processor.chat_template = own


def test_a_folder_without_a_template_counts_qwens_format(real, tmp_path, monkeypatch):
    from recipes.medgrpo.tiny_model import CHAT_TEMPLATE

    monkeypatch.setattr(real.processor, "chat_template", CHAT_TEMPLATE)
    real.processor.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    settings_ = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings_.pop("chat_template", None)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings_))
    length = PromptLength(tmp_path, real.family)
    for prompt in PROMPTS:
        assert length(prompt, real.size(), [0.0, 2.0, 4.0], 0.5) == real.tokens(prompt, real.size(), count=3, fps=0.5)


def test_an_answer_counts_with_its_end(real):
    tokenizer = real.processor.tokenizer
    for text in ("12.0-40.0 seconds.", "cutting"):
        assert real.length.answer(text) == len(tokenizer(text + "<|im_end|>")["input_ids"])


def lines():
    hole = [2.0 * i for i in range(12)] + [150.0 + 2.0 * i for i in range(20)]
    yield uniform([2.0 * i for i in range(40)], 0.5)
    yield uniform(hole, 0.5)
    yield uniform([i / 3 for i in range(25)], 3.0)


def best(length, size, line, limit, policy):
    """The longest list that fits, by trying all of them."""
    for frames in range(len(line.picks), LEAST_FRAMES - 1, -1):
        thinner = thin(line, frames, policy)
        if length(PROMPTS[0], size, thinner.times, thinner.sample_fps) <= limit:
            return thinner
    return None


@pytest.mark.parametrize("policy", ["uniform", "ends"])
def test_fit_keeps_as_many_frames_as_fit(real, policy):
    size = real.size(2, 1)
    for line in [*lines(), *([exact([0.0, 1.0, 8.5, 9.0, 99.0, 140.0, 141.0], 1.0)] * (real.family == "qwen3_vl"))]:
        full = real.length(PROMPTS[0], size, line.times, line.sample_fps)
        for limit in range(full - 200, full + 2, 7):
            assert real.length.fit(PROMPTS[0], size, line, limit, policy) == best(
                real.length, size, line, limit, policy
            )


@pytest.mark.parametrize("policy", ["uniform", "ends"])
def test_fit_finds_the_longest_list_of_a_long_clip(real, policy):
    """1,250 s: the bound from which the search comes down is far off where most time stamps have four digits."""
    line = uniform([5.0 * i for i in range(251)], 0.2)
    for limit in (600, 1_003, 1_407, 1_500):
        assert real.length.fit(PROMPTS[0], real.size(1, 1), line, limit, policy) == best(
            real.length, real.size(1, 1), line, limit, policy
        )


@pytest.mark.parametrize("policy", THIN_POLICIES)
def test_a_clip_that_fits_is_left_alone(real, policy):
    line = uniform([2.0 * i for i in range(9)], 0.5)
    full = real.length(PROMPTS[0], real.size(), line.times, line.sample_fps)
    assert real.length.fit(PROMPTS[0], real.size(), line, full, policy) is line


def test_what_cannot_fit_is_said(real):
    line = uniform([2.0 * i for i in range(9)], 0.5)
    full = real.length(PROMPTS[0], real.size(), line.times, line.sample_fps)
    assert real.length.fit(PROMPTS[0], real.size(), line, full - 1, "none") is None
    assert real.length.fit(PROMPTS[0], real.size(), line, 5, "uniform") is None
    with pytest.raises(ValueError, match="policy: expected one of none, uniform, ends, found 'some'"):
        real.length.fit(PROMPTS[0], real.size(), line, full - 1, "some")


def test_two_frames_are_the_least(real):
    line = uniform([2.0 * i for i in range(9)], 0.5)
    two = thin(line, 2, "ends")
    tokens = real.length(PROMPTS[0], real.size(), two.times, two.sample_fps)
    assert len(real.length.fit(PROMPTS[0], real.size(), line, tokens, "ends").picks) == 2
    assert real.length.fit(PROMPTS[0], real.size(), line, tokens - 1, "ends") is None


def test_a_folder_that_is_no_tokenizer(tmp_path):
    with pytest.raises(TokenizerError) as caught:
        PromptLength(tmp_path / "none", "qwen3_vl")
    assert str(tmp_path / "none") in str(caught.value) and "\n" not in str(caught.value)


def test_a_tokenizer_that_knows_no_clips(tmp_path):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0}, []))).save_pretrained(tmp_path)
    with pytest.raises(TokenizerError, match=r"found none of its tokens <\|vision_start\|>"):
        PromptLength(tmp_path, "qwen2_5_vl")


def test_a_template_that_cannot_show_a_clip(real, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(real.folder, folder)
    for template in ("{% for m in messages %}{{ m.content[0].text }}{% endfor %}", "{{ 1 + 'a' }}"):
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
        with pytest.raises(TokenizerError, match="chat template: "):
            PromptLength(folder, real.family)


def test_two_clips_in_one_prompt_are_refused(real):
    with pytest.raises(TokenizerError, match="expected one clip"):
        real.length([{"role": "user", "content": "<video><video>"}], real.size(), [0.0], 1.0)


@pytest.mark.skipif(find_spec("recipes") is None, reason="below verl, whose own __init__ imports torch")
def test_transformers_is_imported_only_for_a_tokenizer():
    code = (
        "import sys, data_preprocess.prompt_length; sys.exit('transformers' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
