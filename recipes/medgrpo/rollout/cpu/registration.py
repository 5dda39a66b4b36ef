# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""Announces the CPU rollout to verl by name; its module is imported when a run asks for it."""

import verl.workers.rollout.base as base
import verl.workers.rollout.replica as replica

ROLLOUT = "transformers_cpu"


def _replica_class():
    from recipes.medgrpo.rollout.cpu.server import TransformersReplica

    return TransformersReplica


base._ROLLOUT_REGISTRY[(ROLLOUT, "async")] = "recipes.medgrpo.rollout.cpu.server.TransformersServerAdapter"
replica.RolloutReplicaRegistry.register(ROLLOUT, _replica_class)
