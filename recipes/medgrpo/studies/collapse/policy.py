# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The exact model's policy, a softmax over the answers of each pair, and its update by verl's clipped loss.

    logit(pair, answer) = log start + sqrt(1 - c) own[pair, answer] + sqrt(c) shared[style of the answer]

c is the coupling. At 0 the pairs know nothing of each other; at 1 all that a pair can learn is how to write, and
every pair writes alike. The mean square of a logit's gradient does not depend on c.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from recipes.medgrpo.studies.collapse.world import STYLES, World

CLIP_LOW, CLIP_HIGH, CLIP_FAR = 0.2, 0.3, 3.0
"""As in `config/base.yaml`, and verl's `clip_ratio_c`."""
ADAM = (0.9, 0.999, 1e-8)
OPTIMIZERS = ("sgd", "adam")


def clipped_slope(ratio: np.ndarray, advantage: np.ndarray) -> np.ndarray:
    """d objective / d log-probability of answers with these ratios to the sampling policy: ratio x A where not clipped.

    The objective is minus verl's `compute_policy_loss_vanilla`: min(ratio A, clip(ratio, 0.8, 1.3) A), and for A < 0
    at least 3 A.
    """
    high = (advantage > 0) & (ratio > 1 + CLIP_HIGH)
    low = (advantage < 0) & ((ratio < 1 - CLIP_LOW) | (ratio > CLIP_FAR))
    return np.where(high | low, 0.0, ratio * advantage)


class Policy:
    """Softmax policies of a world's P pairs, trained by gradient steps.

    Args:
        world: whose `start` is the policy at the beginning.
        coupling: c above, 0 to 1.
        rate: learning rate. optimizer: one of `OPTIMIZERS`; adam as torch's, without weight decay.
    """

    def __init__(self, world: World, coupling: float, rate: float, optimizer: str = "sgd") -> None:
        if not 0 <= coupling <= 1:
            raise ValueError(f"coupling {coupling!r}: expected 0 to 1")
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer {optimizer!r}: expected one of {', '.join(OPTIMIZERS)}")
        self.rate, self.optimizer, self.style = rate, optimizer, world.style
        self.scale = sqrt(1 - coupling), sqrt(coupling)
        with np.errstate(divide="ignore"):
            self.log_start = np.log(world.start)
        # The pairs' own parameters, and behind them the shared ones.
        self.cells = world.start.size
        self.parameters = np.zeros(self.cells + len(STYLES))
        self._moments = np.zeros((2, len(self.parameters)))
        self._steps = 0

    def probabilities(self) -> np.ndarray:
        """(P, K), each row summing to 1."""
        own, shared = self.parameters[: self.cells], self.parameters[self.cells :]
        logits = self.log_start + self.scale[0] * own.reshape(self.style.shape) + self.scale[1] * shared[self.style]
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def climb(self, slope: np.ndarray, probabilities: np.ndarray) -> None:
        """A step up the objective whose slope by the log-probability of each answer is `slope` (P, K)."""
        logits = slope - probabilities * slope.sum(axis=1, keepdims=True)
        shared = np.bincount(self.style.ravel(), logits.ravel(), minlength=len(STYLES))
        gradient = np.concatenate([self.scale[0] * logits.ravel(), self.scale[1] * shared])
        self._steps += 1
        if self.optimizer == "adam":
            first, second, epsilon = ADAM
            self._moments[0] = first * self._moments[0] + (1 - first) * gradient
            self._moments[1] = second * self._moments[1] + (1 - second) * gradient**2
            mean, square = (
                moment / (1 - decay**self._steps) for moment, decay in zip(self._moments, (first, second), strict=True)
            )
            gradient = mean / (np.sqrt(square) + epsilon)
        self.parameters += self.rate * gradient
