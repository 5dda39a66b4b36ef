# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Sampling through the training's own rollout servers: what they are told, and that they answer as the engine does."""

import json
import os

import pytest

RANGE = 2**63


@pytest.fixture
def servers(plugged):
    from recipes.medgrpo.rollout import standalone as servers

    return servers


@pytest.mark.parametrize("config,name", [("medgrpo_cpu", "transformers_cpu"), ("medgrpo_gpu", "vllm")])
def test_the_training_configuration_serves_a_checkpoint(servers, monkeypatch, config, name):
    for variable in ("MEDGRPO_DATA", "MEDGRPO_MODEL", "MEDGRPO_STATISTICS"):
        monkeypatch.delenv(variable, raising=False)
    made = servers.RolloutServers("/a model,=of {mine}", config, ["trainer.n_gpus_per_node=3", "trainer.nnodes=2"])
    rollout, model = made.config.actor_rollout_ref.rollout, made.config.actor_rollout_ref.model
    assert rollout.name == name
    assert rollout.load_format == "auto"
    assert model.path == "/a model,=of {mine}"
    # What verl's LLMServerManager counts its replicas by.
    assert (rollout.nnodes, rollout.n_gpus_per_node, rollout.tensor_model_parallel_size) == (2, 3, 1)


def test_rollout_settings_of_the_training_are_kept(servers):
    rollout = servers.compose_config("medgrpo_gpu", ["data.max_response_length=77"], "/model").actor_rollout_ref.rollout
    assert (rollout.dtype, rollout.max_model_len, rollout.max_num_seqs) == ("bfloat16", 6144, 64)
    assert rollout.response_length == 77
    clips = rollout.engine_kwargs.vllm.limit_mm_per_prompt
    assert (clips.image, clips.video.count) == (0, 1)


@pytest.mark.parametrize(
    "override,message",
    [
        ("actor_rollout_ref.rollout.nonsense=1", "medgrpo_cpu .*nonsense=1: Could not override '.*nonsense'"),
        ("actor_rollout_ref.rollout.top_p=[", r"medgrpo_cpu .*top_p=\[: no viable alternative"),
        ("actor_rollout_ref.rollout.name=sglang", "expected an engine that takes frames .*, got sglang"),
    ],
)
def test_an_override_that_does_not_fit_is_one_clear_line(servers, override, message):
    with pytest.raises(servers.RolloutError, match=message) as caught:
        servers.compose_config("medgrpo_cpu", [override], "/model")
    assert "\n" not in str(caught.value)


def test_a_request_is_told_what_the_agent_loop_tells(servers):
    """verl's single-turn agent loop sends the first five; a limit and a seed come on top."""
    from recipes.medgrpo.rollout.transformers_engine import SamplingSettings

    overrides = ["actor_rollout_ref.rollout.top_p=0.9", "actor_rollout_ref.rollout.top_k=20"]
    made = servers.RolloutServers("/model", "medgrpo_gpu", overrides)
    settings = SamplingSettings(48, temperature=0.7, **made.truncation)
    assert servers.sampling_parameters(made.rollout, settings, seed=RANGE - 1) == {
        **{"temperature": 0.7, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.0, "logprobs": True},
        **{"max_tokens": 48, "seed": RANGE - 1},
    }
    assert made.differences(0.7, 48) == [
        "temperature 0.7: medgrpo_gpu trains with 1.0",
        "max_new_tokens 48: medgrpo_gpu trains with 1024",
    ]


def test_answers_are_headed_by_what_they_depend_on(servers):
    def described(*overrides):
        return servers.RolloutServers("/model", "medgrpo_gpu", overrides).described

    plain = described()
    assert json.loads(json.dumps(plain)) == plain
    # A run that ran out of memory goes on where it was.
    assert described("trainer.n_gpus_per_node=1", "actor_rollout_ref.rollout.gpu_memory_utilization=0.4") == plain
    for other in ("dtype=float16", "top_p=0.9", "+engine_kwargs.vllm.max_logprobs=3", "name=transformers_cpu"):
        plus, _, rest = other.rpartition("+")
        assert described(f"{'+' if other[0] == '+' else ''}actor_rollout_ref.rollout.{rest}") != plain, other


def test_servers_that_do_not_run_answer_nothing(servers):
    from recipes.medgrpo.rollout.transformers_engine import Request, SamplingSettings

    with pytest.raises(servers.RolloutError, match="not running"):
        servers.RolloutServers("/model", "medgrpo_cpu").generate([Request([1], [], 0)], SamplingSettings(1))


@pytest.mark.skipif(os.environ.get("VERL_PLATFORM") != "cpu", reason="the CPU rollout belongs to VERL_PLATFORM=cpu")
def test_the_cpu_server_draws_by_the_seed_that_it_is_told(plugged):
    """Without one it makes its own, another for every time that a prompt is asked."""
    from collections import Counter
    from types import SimpleNamespace

    from recipes.medgrpo.rollout.cpu.server import TransformersServer
    from recipes.medgrpo.rollout.transformers_engine import Request

    server = SimpleNamespace(asked=Counter(), config=SimpleNamespace(seed=3), global_steps=None)
    request = Request([1, 2], [], 0)
    own = [TransformersServer._seeded(server, request).seed for _ in range(2)]
    told = [TransformersServer._seeded(server, request, seed).seed for seed in (0, 7, 7)]
    assert told == [0, 7, 7] and len({*own, *told}) == 4
    assert TransformersServer._seeded(server, request).seed not in own


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("VERL_PLATFORM") != "cpu", reason="the CPU rollout belongs to VERL_PLATFORM=cpu")
def test_the_servers_answer_as_the_engine_does(servers, qwen2_5_vl, tmp_path):
    """In a Ray of its own: answers, an error, and a run that goes on where it was killed. One start serves all."""
    import ray

    from recipes.medgrpo.files import read_json_lines
    from recipes.medgrpo.inference.answer_log import partial_of
    from recipes.medgrpo.inference.local_engines import InProcess, Rollout
    from recipes.medgrpo.inference.scored_samples import sample_and_score
    from recipes.medgrpo.reward_options import signal_settings
    from recipes.medgrpo.rollout.transformers_engine import Request, SamplingSettings

    made = servers.RolloutServers(str(qwen2_5_vl.path), "medgrpo_cpu")

    class Running(Rollout):
        """On the servers that the test has started."""

        def __enter__(self):
            self.engine = self.servers
            return self

        def __exit__(self, *_):
            self.engine = None

    served = Running(made, 1.0)

    def sampled(file, engine):
        return sample_and_score(
            str(qwen2_5_vl.data / "val.parquet"),
            file,
            engine=engine,
            samples=3,
            rows_per_pair=1,
            max_new_tokens=6,
            batch_size=4,
            tasks=["tal"],
            scoring=signal_settings(),
        )

    settings = SamplingSettings(8)
    requests = [qwen2_5_vl.request(row, seed) for row in (0, 3) for seed in (5, RANGE - 1)]
    expected = qwen2_5_vl.engine.generate(requests, settings)
    assert len({tuple(answer.token_ids) for answer in expected}) > 1
    alone = sampled(tmp_path / "alone.jsonl", InProcess(str(qwen2_5_vl.path), "cpu", 1.0))

    with made as engine:
        answers = engine.generate(requests, settings)
        assert [answer.token_ids for answer in answers] == [answer.token_ids for answer in expected]
        assert [answer.truncated for answer in answers] == [answer.truncated for answer in expected]
        for mine, its in zip(expected, answers, strict=True):
            assert its.log_probs == pytest.approx(mine.log_probs, abs=1e-4)
        assert engine.prompt_ids(qwen2_5_vl.messages(3), requests[2].videos) == requests[2].prompt_ids

        # A token that the model does not have: the server's error is the caller's, in one line.
        wrong = Request([10**6], [], 0, key="17")
        with pytest.raises(servers.RolloutError, match=r"^rollout server \(transformers_cpu\) .*IndexError") as caught:
            engine.generate([wrong, wrong], settings)
        assert "asked for row 17: IndexError" in str(caught.value)
        assert "\n" not in str(caught.value)
        with pytest.raises(servers.RolloutError, match="RuntimeError: the engine ran out of clips"):
            engine.generate([Request([5, 6, 7], [], 0)], settings)
        assert [answer.token_ids for answer in engine.generate(requests[:1], settings)] == [expected[0].token_ids]

        # Answers of another engine are not taken over.
        file = tmp_path / "served.jsonl"
        header, *records = read_json_lines(tmp_path / "alone.jsonl")
        assert header["header"]["settings"]["engine"] == {"name": "transformers", "dtype": "float32"}
        write(partial_of(file), [header, *({**record, "answer": "of another engine"} for record in records)])
        assert sampled(file, served) == alone
        header = read_json_lines(file)[0]
        assert header["header"]["settings"]["engine"] == {"name": "rollout", **made.described}

        # Killed in the middle of a row's three samples: the third is the draw that was due.
        file.unlink()
        write(partial_of(file), [header, *records[:2]])
        assert sampled(file, served) == alone
        assert not partial_of(file).exists()
        assert ray.is_initialized()
    assert not ray.is_initialized()


def write(file, records):
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
