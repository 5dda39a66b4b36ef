# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""`JUDGE=router` of the GPU recipes as a real process: verl serves the judge, in a vLLM server behind its router.

The judge is a tiny Qwen2. It is taught here what no random model does: to copy the request's code into a verdict. Its
marks mean nothing.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from small_pipeline import NO_VLLM, OVERRIDES, ROOT, finish, records_of, start, vllm_python

sys.path.insert(0, str(ROOT / "tests"))
from mock_judge_server import MockJudge, Reply, truthful  # noqa: E402

from recipes.medgrpo.tiny_model import train_tokenizer, write
from reward_score.judge.judgement import DIMENSIONS
from reward_score.judge.prompting import load_prompt, messages

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.skipif(vllm_python() is None, reason=NO_VLLM)]

WORDS = "the grasper hook scissors retracts dissects cuts gallbladder liver cystic duct of and while".split()
SEEN = 160  # characters of a request that a lesson has: the code stands in the last sentence


def request_and_verdict(draw: random.Random) -> tuple[list[dict[str, str]], str]:
    nonce = f"{draw.getrandbits(64):016x}"
    candidate, reference = (" ".join(draw.choices(WORDS, k=draw.randint(5, 30))) for _ in range(2))
    chat = messages(load_prompt(), nonce=nonce, candidate=candidate, reference=reference, task="rc", question=None)
    return chat, json.dumps({"nonce": nonce, **{name: draw.randint(1, 5) for name in DIMENSIONS}})


def taught_judge(folder: Path, steps: int = 400, batch: int = 32) -> None:
    """Write the judge. A token is a character, so that the code is as far from its copy in every request."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    draw, threads = random.Random(0), torch.get_num_threads()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # two wait for each other longer than they work
    tokenizer = train_tokenizer([], vocab_size=264)
    tokenizer.model_max_length = 16384
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=16384,
            initializer_range=0.1,
            tie_word_embeddings=True,
            use_sliding_window=True,  # two layers see less than a lesson, so that a whole request changes nothing
            sliding_window=64,
            max_window_layers=0,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        lessons = []
        for chat, verdict in (request_and_verdict(draw) for _ in range(batch)):
            asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            said = tokenizer(verdict + tokenizer.eos_token)["input_ids"]
            lessons.append(tokenizer(asked[-4 * SEEN :])["input_ids"][-SEEN:] + said)
        ids = torch.tensor(lessons)
        logits = model(input_ids=ids).logits[:, SEEN - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, SEEN:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    torch.set_num_threads(threads)
    write(model, tokenizer, tokenizer, folder)


def test_captions_are_judged_by_a_model_that_verl_serves(tmp_path):
    judge, run, grpo, log = (tmp_path / name for name in ("judge", "run", "grpo", "log"))
    taught_judge(judge)
    # Statistics are of the judge by its name; an endpoint stands in for it there.
    with MockJudge(lambda request: Reply(content=truthful(request))) as endpoint:
        asked = {"JUDGE": "openai", "JUDGE_MODEL": "taught", "JUDGE_BASE_URL": endpoint.base_url}
        prices = {"JUDGE_PROMPT_PRICE": "0", "JUDGE_COMPLETION_PRICE": "0", "MEDGRPO_JUDGE_API_KEY": "none"}
        finish(start(run, log, ONLY_SFT="yes", **asked, **prices), log)

    (sft,) = (run / "sft").glob("global_step_*/huggingface")
    settings = {
        "DEVICE": "cpu",
        "N_GPUS": "2",
        "MODEL_PATH": str(sft),
        "DATA_DIR": str(run / "data"),
        "STATISTICS": str(run / "statistics.json"),
        "OUTPUT_DIR": str(grpo),
        "FREE_GIB": "1",
        "HOST_GIB": "8",
        "SHM_GIB": "1",
        "STEPS": "2",
        "SAVE_FREQ": "2",
        "TRAIN_BATCH_SIZE": "16",
        "LR": "1e-4",
        "JUDGE": "router",
        "JUDGE_MODEL": "taught",
        "JUDGE_MODEL_PATH": str(judge),
    }
    script = ROOT / "examples/run_medgrpo_qwen2_5_vl_7b.sh"
    with open(log, "a") as out:
        subprocess.run(
            ["bash", script, *OVERRIDES], env=os.environ | settings, stdout=out, stderr=out, check=True, timeout=1800
        )
    steps = [record["data"] for record in records_of(grpo / "attempts/grpo_1.jsonl")]
    assert len(steps) == 2, log.read_text()[-4000:]
    for data in steps:
        assert data["medgrpo/judge/judgements"] > data.get("medgrpo/judge/blank", 0)
        assert data["medgrpo/judge/failed_share"] == 0
        assert data["medgrpo/judge/refused_share"] <= 0.1  # a code that was copied wrong
        assert data["medgrpo/rollouts/failed"] == 0
        assert data["training/rollout_actor_probs_pearson_corr"] >= 0.9995
