# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""What SFT learns of an intervention, token by token: prefix and correction; no prompt, clip or end, nothing behind."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from parquet_rows import given_out

from recipes.medgrpo.data.families import family_of
from recipes.medgrpo.interventions.attempts import Attempt
from recipes.medgrpo.interventions.location import Asked, Mistake, locate
from recipes.medgrpo.interventions.training_rows import write_rows

END = "<|im_end|>"
SPOILT = {
    "cvs": "Two structures: 0, Cystic plate: 3",
    "stg": "0.0 seconds: [1, 1, 2, 2] 1.0 seconds: [3, 3, 4, 4]",
    "dvc": "90.0-91.0 seconds: Nothing.",
}


def spoilt(row):
    """A mistake in an answer to the row: one of the task's that is wrong from the beginning, or at its last score."""
    target = row["extra_info"]["answer"]
    if row["ability"] == "sa":  # all right but the last two
        head, _, _ = target.rpartition(", ")
        before, _, _ = head.rpartition(": ")
        return f"{before}: {'1' if head[-3] != '1' else '2'}/5, Quality of final product: 3/5"
    return SPOILT.get(row["ability"])


@pytest.fixture
def interventions(family, tmp_path):
    """(attempts, dataset of their rows): the real rows of each task with several elements, spoilt."""
    from recipes.medgrpo.data.dataset import MedVidSFTDataset
    from recipes.medgrpo.data.rows import Rows

    data = family.data / "train.parquet"
    rows, attempts = Rows.open([str(data)]), []
    for place, row in enumerate(given_out(data)):
        asked = Asked.of(row, spoilt(row) or "")
        if isinstance(mistake := locate(asked), Mistake):
            attempts.append(Attempt(place, 0, row["data_source"], asked, mistake))
    write_rows(tmp_path / "int/interventions.parquet", str(data), attempts, rows)
    write_rows(tmp_path / "int/gold.parquet", str(data), attempts, rows, gold=True)

    def dataset(name):
        config = OmegaConf.create({"max_length": 2048})
        file = str(tmp_path / "int" / name)
        return MedVidSFTDataset([file], family.processor.tokenizer, config, family.processor)

    return attempts, dataset


def test_the_loss_is_on_prefix_and_correction_alone(family, interventions):
    attempts, dataset = interventions
    open_rows, tokenizer = dataset("interventions.parquet"), family.processor.tokenizer
    end = tokenizer.convert_tokens_to_ids(END)
    assert {attempt.asked.task for attempt in attempts} >= {"cvs", "sa", "stg", "dvc"}
    assert any(attempt.mistake.prefix for attempt in attempts)
    for at, attempt in enumerate(attempts):
        item = open_rows[at]
        ids, mask = item["input_ids"].tolist(), item["loss_mask"].tolist()
        guided = tokenizer.encode(attempt.mistake.guided, add_special_tokens=False)
        learnt = [token for token, on in zip(ids, mask, strict=True) if on]
        # Every token of prefix and correction, each once, and the last of them ends the sequence.
        assert learnt == guided and tokenizer.decode(learnt) == attempt.mistake.guided
        assert ids[-len(guided) :] == guided and mask == [0] * (len(ids) - len(guided)) + [1] * len(guided)
        assert end not in learnt
        # Before it stands the prompt that a rollout has, clip and all, and nothing of it is learnt.
        from recipes.medgrpo.data.dataset import chat_of
        from recipes.medgrpo.data.video import clips_of

        messages = chat_of(open_rows.rows.row(at))
        assert ids[: -len(guided)] == family.engine.prompt_ids(messages, clips_of(messages))


def test_the_rows_of_the_other_arm_end_as_any_answer_does(family, interventions):
    attempts, dataset = interventions
    closed, tokenizer = dataset("gold.parquet"), family.processor.tokenizer
    for at, attempt in enumerate(attempts):
        item = closed[at]
        learnt = item["input_ids"][item["loss_mask"].bool()].tolist()
        assert tokenizer.decode(learnt) == attempt.asked.target + END


def test_rows_without_the_mark_are_learnt_as_before(family, interventions, tmp_path):
    """The preprocessor's files do not have the column; a null in it is no mark either."""
    from recipes.medgrpo.data.dataset import MedVidSFTDataset

    _, dataset = interventions
    config = OmegaConf.create({"max_length": 2048})
    plain = MedVidSFTDataset(
        [str(family.data / "train.parquet")], family.processor.tokenizer, config, family.processor
    )[0]
    end = family.processor.tokenizer.convert_tokens_to_ids(END)
    assert plain["input_ids"][plain["loss_mask"].bool()].tolist()[-1] == end
    table = pq.read_table(tmp_path / "int/interventions.parquet")
    rows = table.to_pylist()
    for row in rows:
        row["extra_info"]["answer_open"] = None
    pq.write_table(pa.Table.from_pylist(rows, table.schema), tmp_path / "int/interventions.parquet")
    item = dataset("interventions.parquet")[0]
    assert item["input_ids"][item["loss_mask"].bool()].tolist()[-1] == end


def test_an_engine_goes_on_from_the_very_tokens_that_are_learnt(family, interventions):
    """The continuations' prompt is the training row's sequence."""
    from recipes.medgrpo.data.dataset import chat_of
    from recipes.medgrpo.data.video import clips_of
    from recipes.medgrpo.inference.jobs import Job
    from recipes.medgrpo.inference.local_engines import InProcess

    attempts, dataset = interventions
    open_rows, asked = dataset("interventions.parquet"), []
    engine = InProcess(str(family.path), "cpu", 1.0)
    engine.engine = family.engine
    row = open_rows.rows.row(0)
    job = Job(0, 0, row, chat_of(row), 2, 1, clips_of(chat_of(row)), attempts[0].mistake.guided)
    generate = family.engine.generate
    try:
        family.engine.generate = lambda requests, settings: asked.extend(requests) or generate(requests, settings)
        (reply,) = engine.answers([job])
    finally:
        del family.engine.generate
    assert asked[0].prompt_ids == open_rows[0]["input_ids"].tolist()
    assert reply.tokens == 2
    assert family_of(family.processor).name == family.name
