# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Another model family is an entry of `CONVENTIONS` and a class: a pretended one goes through every step."""

import sys

import pytest

from reward_score.conventions import CONVENTIONS, Convention


@pytest.fixture
def pretended(plugged, monkeypatch):
    """A family that writes boxes in hundredths and has a configuration of its own; the rest is as an existing one's."""
    import transformers
    from transformers.models import auto

    from recipes.medgrpo.data import families

    class PretendedConfig(transformers.Qwen3VLConfig):
        model_type = "pretended_vl"

    class Pretended(families.Qwen3VL):
        name = "pretended_vl"
        vllm_mend = None

    monkeypatch.setattr(transformers, "PretendedConfig", PretendedConfig, raising=False)
    # transformers lists the classes of a real family by itself.
    for part, (module, names) in families._CLASSES.items():
        listed = getattr(getattr(auto, module), names)
        own = "PretendedConfig" if part == "config" else listed["qwen3_vl"]
        monkeypatch.setitem(listed, Pretended.name, own)
    monkeypatch.setitem(
        CONVENTIONS, Pretended.name, Convention(patch_size=16, box_side=100.0, stamped=True, thinks=False)
    )
    monkeypatch.setitem(families.FAMILIES, Pretended.name, Pretended())
    return Pretended.name


def test_another_family_goes_through_every_step(pretended, qwen3_vl, tmp_path):
    """Rows to a clip, a prompt of the stored length, a box and its way back, a question to an endpoint, and a plan."""
    import pyarrow.parquet as pq
    from omegaconf import OmegaConf

    from data_preprocess import medvidbench
    from recipes.medgrpo.data.dataset import MedVidDataset
    from recipes.medgrpo.data.families import family_of
    from recipes.medgrpo.data.video import clips_of
    from recipes.medgrpo.inference.endpoint_engine import boxes_said
    from recipes.medgrpo.planning.shapes import shape_of
    from recipes.medgrpo.planning.tokens import clip_of
    from recipes.medgrpo.rollout.transformers_engine import TransformersEngine
    from recipes.medgrpo.tiny_model import build
    from reward_score.answers import parse_stg
    from reward_score.tasks import TASKS, Context, read_gold

    raw = qwen3_vl.data.parent / "raw"
    tokenizer = qwen3_vl.processor.tokenizer
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    place = ["--annotations", str(raw / "train_annotations.json"), "--frames-root", str(raw / "frames")]
    bounds = ["--min-pixels", "4096", "--max-pixels", "8192", "--val-fraction", "0.3"]
    options = [*place, "--output", str(tmp_path / "data"), *bounds, "--tokenizer", str(tmp_path / "tokenizer")]
    assert medvidbench.main([*options, "--model-family", pretended, "--workers", "1"]) == 0

    # Dataset and processor: the length that the preprocessor stored is the length of what the model is shown.
    model, processor = build(pretended, tokenizer, hidden=64)
    processor.config = model.config
    assert family_of(processor).name == pretended
    settings = OmegaConf.create({"train_batch_size": 23, "max_prompt_length": 4096})
    data = MedVidDataset(str(tmp_path / "data" / "val.parquet"), tokenizer, settings, processor, -1)
    rows = pq.read_table(tmp_path / "data" / "val.parquet").to_pylist()
    place = next(place for place, row in enumerate(rows) if row["ability"] == "stg")
    extra = rows[place]["extra_info"]
    shown = data[place]
    ids = TransformersEngine(model, processor).prompt_ids(shown["raw_prompt"], clips_of(shown["raw_prompt"]))
    assert len(ids) == extra["prompt_tokens"]

    # Boxes: the written answer is in hundredths, and earns everything back on the canvas.
    boxes = parse_stg(extra["answer"]).value
    assert all(0 <= side <= 100 for box in boxes.values() for side in box)
    gold = read_gold("stg", rows[place]["reward_model"]["ground_truth"])
    signals = TASKS["stg"].measure(boxes, gold, Context("", extra))
    assert min(signals.values()) > 0.9
    assert boxes_said(pretended, (64, 64)) == "Box coordinates run from 0 to 100 across the images' width and height."

    # The planner: parameters of the real class, and tokens of the processor's prompt.
    shape = shape_of(model.config, "pretended")
    assert shape.parameters == sum(weight.numel() for weight in model.parameters())
    width, height = extra["processed_size"]
    clip = clip_of(extra["frames"], (width, height), pretended, 10)
    assert clip.prompt_tokens == clip.vision_tokens + clip.mark_tokens + 10


def test_vllms_module_of_a_family_is_mended_once_and_by_name(pretended, monkeypatch):
    from types import ModuleType

    from recipes.medgrpo.data.families import FAMILIES
    from recipes.medgrpo.rollout import vllm_times

    class Processor:
        def _apply_prompt_updates(self, token_ids, updates):
            return token_ids

    own = Processor._apply_prompt_updates
    module = ModuleType("vllm.model_executor.models.qwen3_vl")
    module.Qwen3VLMultiModalProcessor = Processor
    monkeypatch.setitem(sys.modules, module.__name__, module)
    # A module of a family that names no mend stays as it is.
    other = ModuleType(f"vllm.model_executor.models.{pretended}")
    monkeypatch.setitem(sys.modules, other.__name__, other)
    before = dict(vars(other))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    vllm_times.install()
    mended = Processor._apply_prompt_updates
    assert mended is not own
    vllm_times.install()
    assert Processor._apply_prompt_updates is mended and vars(other) == before
    assert all(callable(getattr(vllm_times, f.vllm_mend)) for f in FAMILIES.values() if f.vllm_mend)
