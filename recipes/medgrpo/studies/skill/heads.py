# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.

"""The network and its heads: an encoder with channel attention, prototypes, first-order ProtoMAML, a linear probe.

Encoder, as published: a residual block (kernel 5) on the input channels, a convolution of width 1 to twice as many, a
residual block (kernel 3, dilation 2), the mean over time, a linear layer. A block is convolution, ReLU, norm,
attention, convolution, the input added, ReLU, norm, attention; attention weighs channels by a gate of their means. Not
as published: means and norms leave out padding, and a norm is over one clip's channels and steps and not over a batch,
so that what is said of a query clip does not depend on the other query clips. In the place of the published scaling by
a batch's least and greatest values, an episode's clips are centred on the mean of its support, which takes away what
is the domain's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.func import functional_call, grad
from torch.nn import functional as F

Weights = Mapping[str, torch.Tensor]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
EPSILON = 1e-5


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the steps that are there: x (n, channels, steps), mask (n, 1, steps), result (n, channels)."""
    return (x * mask).sum(-1) / mask.sum(-1)


def masked_norm(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean 0 and variance 1 over each clip's channels and steps, padding left out and kept at 0. Nothing is learnt."""
    count = mask.sum((-2, -1), keepdim=True) * x.shape[-2]
    centred = (x - (x * mask).sum((-2, -1), keepdim=True) / count) * mask
    return centred / ((centred**2).sum((-2, -1), keepdim=True) / count + EPSILON).sqrt()


class Attention(nn.Module):
    """Channels weighed by a gate, 0 to 1, of their means over time."""

    def __init__(self, channels: int):
        super().__init__()
        half = max(1, channels // 2)
        self.squeeze = nn.Linear(channels, half, bias=False)
        self.expand = nn.Linear(half, channels, bias=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.expand(self.squeeze(masked_mean(x, mask))))[..., None]


class Block(nn.Module):
    """Two convolutions over time with the input added."""

    def __init__(self, channels: int, kernel: int, dilation: int):
        super().__init__()
        shape = {"kernel_size": kernel, "dilation": dilation, "padding": (kernel - 1) * dilation // 2}
        self.first = nn.Conv1d(channels, channels, **shape)
        self.second = nn.Conv1d(channels, channels, **shape)
        self.early, self.late = Attention(channels), Attention(channels)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        y = self.early(masked_norm(F.relu(self.first(x)), mask), mask)
        return self.late(masked_norm(F.relu(self.second(y) + x), mask), mask)


class Encoder(nn.Module):
    """Clips (n, channels, steps) with their masks (n, 1, steps) to vectors (n, size)."""

    def __init__(self, channels: int, size: int = 512):
        super().__init__()
        self.inner = Block(channels, kernel=5, dilation=1)
        self.widen = nn.Conv1d(channels, 2 * channels, kernel_size=1)
        self.outer = Block(2 * channels, kernel=3, dilation=2)
        self.out = nn.Linear(2 * channels, size)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        y = self.widen(self.inner(x * mask, mask)) * mask
        return self.out(masked_mean(self.outer(y, mask), mask))


def prototype_head(vectors: torch.Tensor, ways: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The linear head that compares squared distances to the classes' means p: weights 2 p, bias -|p|^2.

    Args:
        vectors: (ways * shots, size), ordered by class, as many of each.
    """
    means = vectors.reshape(ways, -1, vectors.shape[-1]).mean(1)
    return 2 * means, -(means**2).sum(-1)


def labels_of(ways: int, each: int) -> torch.Tensor:
    """Class numbers of `each` clips of every class, ordered by class."""
    return torch.arange(ways).repeat_interleave(each)


def column_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """1 - the mean over classes of the cosine between a class's probabilities over the batch and its indicator."""
    indicator = F.one_hot(labels, logits.shape[-1]).to(logits.dtype)
    return 1 - F.cosine_similarity(logits.softmax(-1), indicator, dim=-2).mean()


LOSSES: dict[str, Loss] = {"cosine": column_loss, "cross_entropy": F.cross_entropy}
"""`cosine` is the published one."""


def adapt(
    encoder: Encoder,
    weights: Weights,
    support: tuple[torch.Tensor, torch.Tensor],
    *,
    ways: int,
    steps: int,
    rate: float,
    loss: Loss,
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """First-order ProtoMAML: encoder and head after `steps` steps of gradient descent on a support set.

    The head starts as the prototypes' (`prototype_head`), and with no step is it. Gradients of what is made of the
    result pass through the prototypes and, as if the steps were constants, to the encoder's weights.

    Args:
        support: clips (ways * shots, channels, steps), ordered by class, and their masks.
    """
    matrix, bias = prototype_head(functional_call(encoder, dict(weights), support), ways)
    labels = labels_of(ways, support[0].shape[0] // ways)

    def inner(parts: tuple) -> torch.Tensor:
        body, w, b = parts
        return loss(functional_call(encoder, body, support) @ w.mT + b, labels)

    body, w, b = dict(weights), matrix.detach(), bias.detach()
    for _ in range(steps):
        slopes, to_w, to_b = grad(inner)((body, w, b))
        body = {name: value - rate * slopes[name].detach() for name, value in body.items()}
        w, b = w - rate * to_w.detach(), b - rate * to_b.detach()
    return body, matrix + (w - matrix).detach(), bias + (b - bias).detach()


def logits_of(
    encoder: Encoder,
    weights: Weights,
    support: tuple[torch.Tensor, torch.Tensor],
    query: tuple[torch.Tensor, torch.Tensor],
    *,
    ways: int,
    steps: int,
    rate: float = 0.0,
    loss: Loss = column_loss,
) -> torch.Tensor:
    """(n, ways) of query clips (n, channels, steps) after a support set. With no step it is a ProtoNet's.

    All clips are centred on the mean of the support's clips.
    """
    middle = masked_mean(*support).mean(0)[None, :, None]
    support, query = ((x - middle, mask) for x, mask in (support, query))
    body, w, b = adapt(encoder, weights, support, ways=ways, steps=steps, rate=rate, loss=loss)
    return functional_call(encoder, body, query) @ w.mT + b


def linear_probe(support: torch.Tensor, query: torch.Tensor, ways: int, decay: float = 1.0) -> torch.Tensor:
    """(n, ways) probabilities of a logistic regression on a support set's vectors alone.

    Args:
        support: (ways * shots, channels), ordered by class. query: (n, channels).
        decay: of |weights|^2 / 2 beside the summed loss; 1 is scikit-learn's default.
    """
    labels = labels_of(ways, len(support) // ways)
    w = torch.zeros(ways, support.shape[1], requires_grad=True)
    b = torch.zeros(ways, requires_grad=True)
    solver = torch.optim.LBFGS([w, b], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        cost = F.cross_entropy(support @ w.T + b, labels, reduction="sum") + decay * (w**2).sum() / 2
        cost.backward()
        return cost

    solver.step(closure)
    return (query @ w.T + b).detach().softmax(-1)
