# shellcheck shell=bash
# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
#
# Which model family a run is for. Sourced after ROOT is set. A family can be chosen when it has an 8-GPU recipe:
# examples/run_medgrpo_FAMILY_SIZE.sh.

MODEL=${MODEL:-qwen2_5_vl}              # the model family

# Names of the families.
families() {
  local script
  for script in "$ROOT/examples/"run_medgrpo_*_*.sh; do
    script=${script##*/run_medgrpo_}
    echo "${script%_*}"
  done
}

# The 8-GPU recipe of MODEL.
recipe_of() { basename "$(compgen -G "$ROOT/examples/run_medgrpo_${MODEL}_*.sh" | head -n 1)"; }

# A line where MODEL is no family.
model_problem() {
  families | grep -xF -- "$MODEL" >/dev/null || echo "MODEL is '$MODEL', expected $(families | paste -sd '|' | sed 's/|/ or /g')"
}
