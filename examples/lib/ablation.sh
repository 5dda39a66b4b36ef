# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
# shellcheck shell=bash
#
# Trainings that start from one SFT model, to be sourced with ROOT set. The settings of the ablation's rows are in
# recipes/medgrpo/studies/ablation/variants.txt.

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

# share_parts BASE RUN PART...: what a run takes from another one, as far as it is not there yet.
share_parts() {
  local base=$1 run=$2 part
  shift 2
  # Hard links: nothing is written twice, and what a stage writes anew it renames into place.
  for part in "$@"; do
    [[ ! -e $run/$part ]] || continue
    mkdir -p "$(dirname "$run/$part")"
    rm -rf "$run/$part.partial"
    cp -al "$base/$part" "$run/$part.partial"
    mv "$run/$part.partial" "$run/$part"
  done
}
