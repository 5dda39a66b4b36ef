# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Small real things for the recipe's tests: synthetic rows and a tiny model per family, made by the real commands."""

from __future__ import annotations

import copy
import importlib.util
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ("qwen2_5_vl", "qwen3_vl", "qwen3_5")
PIXELS = {"qwen2_5_vl": ("3136", "6272"), "qwen3_vl": ("4096", "8192"), "qwen3_5": ("4096", "8192")}


def _command(script: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, str(ROOT / script), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@dataclass(frozen=True, repr=False)
class Family:
    """A tiny model of one family with its data: folders, the engine, and the processor as verl binds it."""

    name: str
    data: Path
    path: Path
    engine: object
    processor: object

    def messages(self, row: int = 0, *, frames: int | None = None, fps: float | None = None) -> list[dict]:
        """A training row's chat in parts, its clip cut or stretched to `frames` frames and said to run at `fps`."""
        from recipes.medgrpo.data.dataset import read_rows, split_content

        record = read_rows(str(self.data / "train.parquet")).slice(row, 1).to_pylist()[0]
        video = dict(record["videos"][0])
        if frames is not None:
            video["video"] = [video["video"][at % len(video["video"])] for at in range(frames)]
        if fps is not None:
            video["sample_fps"] = fps
        return split_content(record["prompt"], [video])

    def request(self, row: int = 0, seed: int = 0, **changes):
        from recipes.medgrpo.data.video import clips_of
        from recipes.medgrpo.rollout.transformers_engine import Request

        messages = self.messages(row, **changes)
        clips = clips_of(messages)
        return Request(self.engine.prompt_ids(messages, clips), clips, seed)

    def actor_inputs(self, request, answer: list[int] = ()) -> tuple:
        """(ids, positions, multi-modal inputs) of prompt and answer as verl's agent loop makes them for the actor."""
        import torch
        from verl.experimental.agent_loop.agent_loop import AgentLoopWorker

        worker = types.SimpleNamespace(
            processor=self.processor, tokenizer=self.processor.tokenizer, _get_mm_processor_kwargs=lambda audios: {}
        )
        output = types.SimpleNamespace(multi_modal_data={"videos": list(request.videos)}, mm_processor_kwargs=None)
        ids = torch.tensor([[*request.prompt_ids, *answer]])
        inputs = AgentLoopWorker._compute_multi_modal_inputs(worker, output, ids)
        positions = AgentLoopWorker._compute_position_ids(worker, ids, torch.ones_like(ids), inputs)
        return ids, positions[0], inputs

    def rollout_positions(self, request):
        """Positions (4, n) of a prompt as the rollout engine places it."""
        import torch

        ids = torch.tensor([request.prompt_ids])
        grids = self.engine._vision(request.videos)["video_grid_thw"]
        metadata = [metadata for _, metadata in request.videos]
        return self.engine.positions(ids, torch.ones_like(ids), grids, metadata)[:, 0]

    def on_frames(self, ids):
        """Which of some token ids stand for frames."""
        return ids == self.engine.model.config.video_token_id

    @property
    def keeps_states(self) -> bool:
        """Whether some of its text layers keep a state in the place of keys and values."""
        # Qwen3-VL does not list its layers.
        return "linear_attention" in (getattr(self.engine.model.config.text_config, "layer_types", None) or ())

    def opinionated(self, attention: float = 3.0, head: float = 8.0):
        """An engine whose model is far from uniform and attends sharply: the random weights, scaled."""
        import torch

        from recipes.medgrpo.rollout.transformers_engine import TransformersEngine

        model = copy.deepcopy(self.engine.model)
        with torch.no_grad():
            model.lm_head.weight *= head
            for layer in model.model.language_model.layers:
                # A layer with a state normalises its queries and keys, so scaling them would do nothing.
                if hasattr(layer, "self_attn"):
                    layer.self_attn.q_proj.weight *= attention
                    layer.self_attn.k_proj.weight *= attention
        return TransformersEngine(model, self.engine.processor, self.engine.banned.tolist())

    @staticmethod
    def teacher_forced(model, ids, positions, inputs, prompt: int):
        """Log-probabilities (n, V) of every answer token's place, by one plain forward pass of the actor's inputs."""
        import torch

        vision = {name: inputs[name] for name in ("pixel_values_videos", "video_grid_thw")}
        with torch.no_grad():
            out = model(input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=positions[:, None], **vision)
        return torch.log_softmax(out.logits[0, prompt - 1 : -1].float(), dim=-1)

    def __repr__(self) -> str:
        return self.name


@pytest.fixture
def opinionated(family):
    return family.opinionated()


@pytest.fixture(scope="session")
def plugged():
    """This process as verl's processes are: the plugin loaded before torchvision and verl."""
    import torch

    import recipes.medgrpo.plugin  # noqa: F401

    # Two threads that wait for each other on a busy machine take twenty times as long for matrices this small.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def synthetic_data(tmp_path_factory) -> dict[str, Path]:
    """Folders with train.parquet and val.parquet, one per model family, made from the same annotations."""
    root = tmp_path_factory.mktemp("synthetic")
    _command(
        "data_preprocess/synthetic.py",
        *("--output", str(root / "raw"), "--videos-per-source", "3", "--rows-per-pair", "3"),
    )
    for family in FAMILIES:
        low, high = PIXELS[family]
        _command(
            "data_preprocess/medvidbench.py",
            *("--annotations", str(root / "raw/train_annotations.json"), "--frames-root", str(root / "raw/frames")),
            *("--output", str(root / family), "--model-family", family, "--val-fraction", "0.3"),
            *("--min-pixels", low, "--max-pixels", high),
        )
    return {family: root / family for family in FAMILIES}


def _make(name: str, data: Path, path: Path) -> Family:
    from verl.utils.tokenizer import hf_processor

    from recipes.medgrpo import tiny_model
    from recipes.medgrpo.rollout.transformers_engine import TransformersEngine

    text = [str(data / f"{split}.parquet") for split in ("train", "val")]
    arguments = ["--family", name, "--text", *text, "--output", str(path), "--hidden", "64"]
    assert tiny_model.main(arguments) == 0
    return Family(name, data, path, TransformersEngine.load(str(path)), hf_processor(str(path)))


@pytest.fixture(scope="session")
def qwen2_5_vl(plugged, synthetic_data, tmp_path_factory) -> Family:
    return _make("qwen2_5_vl", synthetic_data["qwen2_5_vl"], tmp_path_factory.mktemp("model") / "qwen2_5_vl")


@pytest.fixture(scope="session")
def qwen3_vl(plugged, synthetic_data, tmp_path_factory) -> Family:
    return _make("qwen3_vl", synthetic_data["qwen3_vl"], tmp_path_factory.mktemp("model") / "qwen3_vl")


@pytest.fixture(scope="session")
def qwen3_5(plugged, synthetic_data, tmp_path_factory) -> Family:
    return _make("qwen3_5", synthetic_data["qwen3_5"], tmp_path_factory.mktemp("model") / "qwen3_5")


@pytest.fixture(params=FAMILIES)
def family(request) -> Family:
    """Each model family in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def untouched_rope_index(plugged):
    """transformers' own `Qwen2_5_VLModel.get_rope_index`, from a second import of its module."""
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as patched

    name = "transformers.models.qwen2_5_vl.modeling_untouched"
    spec = importlib.util.spec_from_file_location(name, patched.__file__)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module.Qwen2_5_VLModel.get_rope_index
