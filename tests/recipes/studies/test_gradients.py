# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Products of gradients give the norm of the very gradient that verl's loss has."""

import json

import numpy as np
import pytest
import torch

from recipes.medgrpo.answers.recorded import RecordedError, Text, read_recorded
from recipes.medgrpo.files import data_fingerprint, model_fingerprint
from recipes.medgrpo.rollout.transformers_engine import SamplingSettings, TransformersEngine


def answers_of(family, pairs: int = 2, rows: int = 2) -> list[dict]:
    """Two made-up answers to each of `rows` rows of some pairs."""
    from recipes.medgrpo.data.dataset import read_rows

    table = read_rows(str(family.data / "train.parquet"))
    sources = table.column("data_source")
    records = []
    for source in sorted(set(sources))[:pairs]:
        for place in [at for at, name in enumerate(sources) if name == source][:rows]:
            extra = table.row(place)["extra_info"]
            for sample, text in enumerate(("1.0-2.0 seconds.", "from 3.5 to 9 s")):
                record = {"file": extra.get("file"), "index": extra["index"], "sample": sample, "answer": text}
                record |= {"data_source": source, "format": 1.0, "score": 0.0, "truncated": sample == 1, "raw_iou": 0.5}
                records.append(record)
    return records


def recorded_from(family, path, records, **changes):
    header = {"model": model_fingerprint(family.path), "data": data_fingerprint(family.data / "train.parquet")}
    lines = [{"header": header | changes}, *records]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_recorded([path])


def test_log_probabilities_are_the_rollout_engine_s(family, opinionated):
    from recipes.medgrpo.studies.normalizers.gradients import _Differentiated

    requests = [family.request(row, seed=row) for row in (0, 5)]
    for request, answer in zip(requests, opinionated.generate(requests, SamplingSettings(12)), strict=True):
        log_p = _Differentiated(opinionated).log_probability(request.prompt_ids, request.videos, answer.token_ids)
        assert log_p.item() == pytest.approx(sum(answer.log_probs), abs=1e-3)


def test_the_norm_is_that_of_the_loss_s_own_gradient(qwen2_5_vl, tmp_path):
    from recipes.medgrpo.data.dataset import chat_of, read_rows
    from recipes.medgrpo.data.video import clips_of
    from recipes.medgrpo.studies.normalizers.gradients import _Differentiated, _row_places, gradient_products

    recorded = recorded_from(qwen2_5_vl, tmp_path / "raw.jsonl", answers_of(qwen2_5_vl))
    data = str(qwen2_5_vl.data / "train.parquet")
    products = gradient_products(recorded, str(qwen2_5_vl.path), data)
    advantages = np.array([0.7, -0.7, 1.3, -0.2, -1.0, 1.0, 0.0, 0.4])
    rows, work = read_rows(data), _Differentiated(TransformersEngine.load(str(qwen2_5_vl.path)))
    places = _row_places(rows, recorded.texts)
    assert len(products) == 2
    for product in products.values():
        work.engine.model.zero_grad()
        loss = torch.zeros(())
        for place in product.places:
            text = recorded.texts[place]
            messages = chat_of(rows.row(places[text.file, text.row]))
            clips = clips_of(messages)
            prompt = work.engine.prompt_ids(messages, clips)
            loss = loss - advantages[place] * work.log_probability(prompt, clips, work.answer_ids(text))
        (loss / len(product.places)).backward()
        squares = sum(float((p.grad.double() ** 2).sum()) for p in work.parameters if p.grad is not None)
        assert product.norm(advantages) == pytest.approx(squares**0.5, rel=1e-3)
        assert product.norm(0 * advantages) == 0


def test_an_answer_ends_its_turn_unless_it_was_cut_off(qwen2_5_vl):
    from recipes.medgrpo.studies.normalizers.gradients import _Differentiated

    work = _Differentiated(qwen2_5_vl.engine)
    whole, cut = (work.answer_ids(Text(None, 1, "1.0-2.0", truncated)) for truncated in (False, True))
    assert whole == [*cut, qwen2_5_vl.engine.end]
    assert work.answer_ids(Text(None, 1, "", True)) == [qwen2_5_vl.engine.end]


def test_resampled_norms_are_those_of_the_drawn_groups(plugged):
    from recipes.medgrpo.studies.normalizers.gradients import Products

    # Two groups of two answers with gradients of length 1 at right angles.
    product = Products(np.arange(4), np.eye(4), np.array([0, 0, 1, 1]))
    advantages = np.array([3.0, -3.0, 1.0, -1.0])
    assert product.norm(advantages) == pytest.approx(np.sqrt(20) / 4)
    drawn = product.resampled(advantages, 200, np.random.default_rng(0))
    # One group twice, each once, the other twice.
    expected = np.sqrt([4 * 2, 20, 4 * 18]) / 4
    assert {round(float(value), 9) for value in drawn} == {round(float(value), 9) for value in expected}


def test_what_gradients_have_in_common_cancels(plugged):
    """Two answers whose gradients are the same but for a ten thousandth, and advantages that sum to 0."""
    import torch

    from recipes.medgrpo.studies.normalizers.gradients import Products, gram_of

    torch.manual_seed(0)
    common, own = 100 * torch.randn(50_000), 0.01 * torch.randn(50_000)
    first, second = common, common + own
    product = Products(np.arange(2), gram_of([first, second], block=1000), np.zeros(2, int))
    expected = float((second.double() - first.double()).norm()) / 2
    assert product.norm(np.array([-1.0, 1.0])) == pytest.approx(expected, rel=1e-3)


def test_whole_groups_are_chosen(qwen2_5_vl, tmp_path):
    from recipes.medgrpo.studies.normalizers.gradients import chosen_answers

    recorded = recorded_from(qwen2_5_vl, tmp_path / "raw.jsonl", answers_of(qwen2_5_vl))
    sizes = {most: [len(places) for places in chosen_answers(recorded, most).values()] for most in (1, 2, 3, 4, 9)}
    assert sizes == {1: [2, 2], 2: [2, 2], 3: [2, 2], 4: [4, 4], 9: [4, 4]}


def test_answers_of_another_checkpoint_other_rows_or_without_texts_are_refused(qwen2_5_vl, tmp_path):
    from recipes.medgrpo.studies.normalizers.gradients import gradient_products

    model, data = str(qwen2_5_vl.path), str(qwen2_5_vl.data / "train.parquet")
    records = answers_of(qwen2_5_vl)
    for name in ("model", "data"):
        other = recorded_from(qwen2_5_vl, tmp_path / "raw.jsonl", records, **{name: "0" * 64})
        with pytest.raises(RecordedError, match=f"recorded with other {name}"):
            gradient_products(other, model, data)
    unknown = recorded_from(qwen2_5_vl, tmp_path / "raw.jsonl", [records[0] | {"index": 10**6}])
    with pytest.raises(RecordedError, match="1000000.* not in the parquet file"):
        gradient_products(unknown, model, data)
    silent = recorded_from(qwen2_5_vl, tmp_path / "raw.jsonl", [records[0] | {"answer": None}])
    with pytest.raises(RecordedError, match="need the answers' texts"):
        gradient_products(silent, model, data)
