# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which encoder a setting names, and where it runs."""

import json
import shutil

import numpy as np
import pytest
import torch
from huggingface_hub import constants

from reward_score.errors import EmbeddingUnavailable
from reward_score.similarity import load_similarity, open_encoder
from reward_score.similarity.encoders import SentenceEncoder, find_device, hub_folder, mean_pooled_bert, packaged_model

FILES = ("config.json", "tokenizer.json", "sentence_bert_config.json", "modules.json", "1_Pooling/config.json")
TEXTS = ["The duct is clipped.", "knot", "the surgeon holds the liver " * 60]


@pytest.fixture
def folder(tmp_path):
    """A copy of the packaged model that may be changed; its weights are linked."""
    source, copy = packaged_model(), tmp_path / "my-model"
    (copy / "1_Pooling").mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(source / name, copy / name)
    (copy / "model.safetensors").symlink_to(source / "model.safetensors")
    return copy


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | values), encoding="utf-8")


def test_a_folder_is_a_model(folder):
    encoder = open_encoder(str(folder), "cpu")
    assert isinstance(encoder, SentenceEncoder)
    np.testing.assert_array_equal(encoder(TEXTS), SentenceEncoder(packaged_model(), windows=True)(TEXTS))


def test_a_name_on_the_hub_is_a_model(folder, tmp_path, monkeypatch):
    """As the hub's library keeps it once it was fetched: no network in tests."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    kept = tmp_path / "hub" / "models--someone--my-model"
    revision = "0123456789" * 4
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(revision, encoding="utf-8")
    shutil.copytree(folder, kept / "snapshots" / revision, symlinks=True)
    assert hub_folder("someone/my-model") == hub_folder(f"someone/my-model@{revision}")
    np.testing.assert_array_equal(
        open_encoder("someone/my-model", "cpu")(TEXTS), SentenceEncoder(packaged_model(), windows=True)(TEXTS)
    )


@pytest.mark.parametrize("name", ["someone/not-there", "/no/such/folder", "someone/my-model@no-such-revision"])
def test_neither_a_folder_nor_a_name_on_the_hub(name, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(EmbeddingUnavailable, match="no folder, and as a name on the hub"):
        load_similarity(name, "cpu")


def test_what_our_forward_pass_can_run(folder):
    assert mean_pooled_bert(folder)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}', encoding="utf-8")
    assert mean_pooled_bert(folder)
    (folder / "modules.json").unlink()
    assert mean_pooled_bert(folder)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"model_type": "mpnet"}),
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"position_embedding_type": "relative_key"}),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}),
    ],
)
def test_what_our_forward_pass_would_get_wrong(folder, file, values):
    change(folder / file, **values)
    assert not mean_pooled_bert(folder)


def test_another_layer_after_the_pooling_is_not_ours(folder):
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    assert not mean_pooled_bert(folder)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"a": 1}'])
def test_a_folder_that_is_no_model(tmp_path, content):
    if content is not None:
        (tmp_path / "modules.json").write_text(content, encoding="utf-8")
    with pytest.raises(EmbeddingUnavailable, match="expected a sentence encoder"):
        load_similarity(str(tmp_path), "cpu")


def gpus(monkeypatch, *free):
    """A machine whose GPUs have these shares of their memory free; None: one that cannot be asked."""

    def asked(number):
        if free[number] is None:
            raise RuntimeError("CUDA error")
        return int(free[number] * 10**11), 10**11

    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(free))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
    monkeypatch.setattr(torch.cuda, "mem_get_info", asked)


@pytest.mark.parametrize(
    ("free", "device"),
    [
        ((), "cpu"),
        ((0.99,), "cuda:0"),
        ((0.5,), "cpu"),
        ((0.3, 0.96, 1.0), "cuda:1"),
        ((0.94,), "cpu"),
        ((None,), "cpu"),
    ],
)
def test_auto_is_a_gpu_that_nobody_is_on(monkeypatch, free, device):
    gpus(monkeypatch, *free)
    assert find_device("auto") == device


def test_a_gpu_by_name(monkeypatch):
    gpus(monkeypatch, 0.1, 0.1)
    assert [find_device(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]
    with pytest.raises(EmbeddingUnavailable, match="cuda:2: torch sees 2 GPUs"):
        find_device("cuda:2")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "CUDA:0", "cuda:-1", "", None, 0])
def test_a_device_that_is_none(device):
    with pytest.raises(ValueError, match="expected auto, cpu, cuda or cuda:N"):
        load_similarity(None, device)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_vectors():
    on_cpu, on_gpu = (SentenceEncoder(packaged_model(), windows=True, device=device) for device in ("cpu", "cuda:0"))
    np.testing.assert_allclose(on_gpu(TEXTS), on_cpu(TEXTS), atol=1e-5)
