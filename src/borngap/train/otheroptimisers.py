"""Optimisers other than AdamW, as Trainer makes those of these names (docs/methods.md#optimisers)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import nn

from borngap.errors import UserError
from borngap.optimisers import FACTS_OF, Optimiser
from borngap.training import Training

_MOMENTUM = 0.95  # of Muon, as torch has it; Nesterov's
Groups = Sequence[dict[str, Any]]


class Steps(Protocol):
    """What the loop needs of an optimiser.

    Attributes:
        param_groups: parameters, and their rate as ``lr``.
    """

    param_groups: list[dict[str, Any]]

    def step(self) -> Any:
        """Do an update by the gradients in place."""

    def zero_grad(self) -> None:
        """Let the gradients go."""


class Together:
    """Several optimisers as one, each of its own parameters.

    Attributes:
        param_groups: of all.
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        """Put them together."""
        self._parts = parts
        self.param_groups: list[dict[str, Any]] = [group for part in parts for group in part.param_groups]

    def step(self) -> None:
        """Do an update of all."""
        for part in self._parts:
            part.step()

    def zero_grad(self) -> None:
        """Let the gradients go."""
        for part in self._parts:
            part.zero_grad()


def hidden_matrices(model: Any) -> frozenset[int]:
    """Return the identities of a model's trained matrices that are hidden layers', which Muon is made for.

    Args:
        model: a Hugging Face causal LM as it is trained.

    Returns:
        Of two-dimensional parameters with more than one row and column, but those of embeddings and of the head.
    """
    outer = [m for m in model.modules() if isinstance(m, nn.Embedding)] + [model.get_output_embeddings()]
    left = {id(p) for module in outer if module is not None for p in module.parameters(recurse=False)}
    trained = (p for p in model.parameters() if p.requires_grad and p.ndim == 2 and min(p.shape) > 1)
    return frozenset(id(p) for p in trained if id(p) not in left)


def _sgd(groups: Groups, rate: float, training: Training, _: Collection[int]) -> Steps:
    return torch.optim.SGD(groups, lr=rate, momentum=training.beta1, weight_decay=training.weight_decay)


def _adafactor(groups: Groups, rate: float, training: Training, _: Collection[int]) -> Steps:
    from transformers import Adafactor

    plain = {"scale_parameter": False, "relative_step": False}  # a rate from outside
    return Adafactor(groups, lr=rate, weight_decay=training.weight_decay, **plain)


def _lion(groups: Groups, rate: float, training: Training, _: Collection[int]) -> Steps:
    lion, betas = _installed("lion").Lion, (training.beta1, training.beta2)
    made: Steps = lion(groups, lr=rate, betas=betas, weight_decay=training.weight_decay)
    return made


def _adamw_8bit(groups: Groups, rate: float, training: Training, _: Collection[int]) -> Steps:
    package = _installed("adamw_8bit")
    plain = {"betas": (training.beta1, training.beta2), "eps": training.eps, "weight_decay": training.weight_decay}
    made: Steps = package.optim.AdamW(groups, lr=rate, optim_bits=8, **plain)
    return made


def _schedule_free(groups: Groups, rate: float, training: Training, _: Collection[int]) -> Steps:
    made = _installed("schedule_free_adamw").AdamWScheduleFree(
        groups, lr=rate, betas=(training.beta1, training.beta2), eps=training.eps,
        weight_decay=training.weight_decay, warmup_steps=training.warmup,
    )  # fmt: skip
    made.train()
    begun: Steps = made
    return begun


def _muon(groups: Groups, rate: float, training: Training, matrices: Collection[int]) -> Steps:
    if not hasattr(torch.optim, "Muon"):
        raise UserError("this torch has no Muon", rule="torch 2.9 or later", found=torch.__version__)
    inner, outer = ([group | {"params": [p for p in group["params"] if (id(p) in matrices) == within]}
                     for group in groups] for within in (True, False))  # fmt: skip
    inner, outer = ([group for group in part if group["params"]] for part in (inner, outer))
    if not inner:
        fix = "another --optimizer or --method"
        raise UserError("Muon has nothing to train here", rule="it trains hidden layers' matrices", fix=fix)
    decay = training.weight_decay
    # by this factor a matrix moves as far as AdamW would move it, so that one rate does for both
    parts: list[torch.optim.Optimizer] = [
        torch.optim.Muon(inner, lr=rate, momentum=_MOMENTUM, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    ]
    if outer:
        betas = (training.beta1, training.beta2)
        parts.append(torch.optim.AdamW(outer, lr=rate, betas=betas, eps=training.eps, weight_decay=decay, fused=True))
    return Together(parts)


def _installed(name: Optimiser) -> Any:
    package = FACTS_OF[name].package
    try:
        return import_module(package.replace("-", "_"))
    except ImportError as error:
        fix = 'pip install "borngap[optimizers]"'
        raise UserError(f"{FACTS_OF[name].words} needs {package}", found=str(error), fix=fix) from None


# optimiser -> what makes it of groups of parameters, a rate, the settings, and the identities of hidden matrices
MAKERS: dict[Optimiser, Callable[[Groups, float, Training, Collection[int]], Steps]] = {
    "sgd": _sgd,
    "adafactor": _adafactor,
    "lion": _lion,
    "adamw_8bit": _adamw_8bit,
    "schedule_free_adamw": _schedule_free,
    "muon": _muon,
}
