# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

import itertools


def test_every_row_of_every_file_draws_its_own_numbers(plugged):
    from recipes.medgrpo.generate import row_seed

    keys = list(itertools.product((0, 1), (0, 1, 2), (0, 1), (None, "a.json", "b.json")))
    seeds = {row_seed(*key) for key in keys}
    assert len(seeds) == len(keys) and all(0 <= seed < 2**63 for seed in seeds)


def test_a_row_draws_the_same_numbers_again(plugged):
    from recipes.medgrpo.generate import row_seed

    assert row_seed(3, 7, 1, "a.json") == row_seed(3, 7, 1, "a.json")
    # Rows that do not say their file keep the seeds that they always had.
    assert row_seed(3, 7, 1) == row_seed(3, 7, 1, "") == row_seed(3, 7, 1, None)


def test_answers_say_which_file_their_row_is_of(qwen2_5_vl, tmp_path):
    """Two files whose rows have the same numbers, in one parquet: every answer has a key of its own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from recipes.medgrpo.comparison import paired_difference
    from recipes.medgrpo.generate import sample_and_score, signal_settings

    table = pq.read_table(qwen2_5_vl.data / "train.parquet")
    row = next(row for row in table.to_pylist() if row["ability"] == "tal")
    rows = [{**row, "extra_info": {**row["extra_info"], "file": name}} for name in ("a.json", "b.json")]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), tmp_path / "rows.parquet")
    records = sample_and_score(
        str(qwen2_5_vl.path),
        str(tmp_path / "rows.parquet"),
        tmp_path / "answers.jsonl",
        samples=2,
        max_new_tokens=4,
        scoring=signal_settings(),
    )
    assert [(record["file"], record["sample"]) for record in records] == [
        *(("a.json", 0), ("a.json", 1), ("b.json", 0), ("b.json", 1))
    ]
    assert paired_difference([(records, records)])["acc_change"] == 0
