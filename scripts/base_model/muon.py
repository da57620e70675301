"""Muon: momentum whose update is orthogonalised, for the matrices and convolutions of the denoiser.

Background and colour dominate the gradient of this model for a long time. Adam follows them; an orthogonal
update gives every direction of a weight matrix the same step, so what is rare (outlines) is learnt beside what is loud.
Method and coefficients: Jordan et al. 2024; scaled as by Liu et al. 2025, so that a rate means what it means for Adam.
``torch.optim.Muon`` takes two-dimensional weights only; most of ours are convolutions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
UPDATE_RMS = 0.2
MIN_SIDE = 16


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum for weights of two or more dimensions (flattened after the first)."""

    def __init__(self, weights: Iterable[Tensor], lr: float) -> None:
        super().__init__(weights, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for weight in (w for w in group["params"] if w.grad is not None):
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - MOMENTUM)
                update = weight.grad.lerp(momentum, MOMENTUM).flatten(1)
                by_shape[tuple(update.shape)].append((weight, update))
            for shape, pairs in by_shape.items():
                updates = orthogonal(torch.stack([u for _, u in pairs]))
                size = UPDATE_RMS * max(shape) ** 0.5
                for (weight, _), update in zip(pairs, updates, strict=True):
                    weight.sub_(update.view_as(weight), alpha=group["lr"] * size)


def orthogonal(batch: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix of each (B, M, N), roughly: singular values land near one."""
    a, b, c = NEWTON_SCHULZ
    tall = batch.shape[1] > batch.shape[2]
    x = batch.mT if tall else batch
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def split(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Weights for Muon, and the rest (biases, norms, first and last layer) for Adam."""
    matrices, rest = [], []
    for name, weight in model.named_parameters():
        inner = weight.ndim >= 2 and min(weight.flatten(1).shape) >= MIN_SIDE and not name.startswith("conv_")
        (matrices if inner else rest).append(weight)
    return matrices, rest
