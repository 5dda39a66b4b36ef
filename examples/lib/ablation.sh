# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# The rows of the ablation, to be sourced with ROOT set: their settings are in recipes/medgrpo/studies/ablation/variants.txt.

# row_names: every row of the table, on one line.
row_names() {
  sed -nE 's/^([A-Za-z_]+) *\|.*/\1/p' "$ROOT/recipes/medgrpo/studies/ablation/variants.txt" | paste -sd ' '
}

# read_row ROW: its settings as ROW_TASKS, ROW_NORMALIZER, ROW_ADVANTAGE and ROW_JUDGE (yes or none); fails without such
# a row.
read_row() {
  local name
  while IFS='|' read -r name ROW_TASKS ROW_NORMALIZER ROW_ADVANTAGE ROW_JUDGE _; do
    # Unquoted, a cell loses the blanks about it.
    # shellcheck disable=SC2086,SC2116
    if [[ $(echo $name) == "$1" ]]; then
      ROW_TASKS=$(echo $ROW_TASKS) ROW_NORMALIZER=$(echo $ROW_NORMALIZER)
      ROW_ADVANTAGE=$(echo $ROW_ADVANTAGE) ROW_JUDGE=$(echo $ROW_JUDGE)
      return 0
    fi
  done < <(grep -v '^#' "$ROOT/recipes/medgrpo/studies/ablation/variants.txt")
  return 1
}
