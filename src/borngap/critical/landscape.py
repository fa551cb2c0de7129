"""Landscape: a model as a function of how far its trained parameters are displaced from the base weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from borngap.choices import Criterion
from borngap.errors import UserError
from borngap.model.forward import last_logits
from borngap.observables.predictions import measure
from borngap.train.finetune import FineTune
from borngap.train.observe import Observer, Record
from borngap.train.optimiser import shrunk
from borngap.train.threads import as_many_as_pay

_CHUNK = 1 << 22


@dataclass
class Spent:
    """What was computed so far.

    Attributes:
        optimizer_steps: updates of a real optimiser.
        forward_passes: forwards of one context, those that a gradient needs included.
        gradients: backward passes.
    """

    optimizer_steps: int = 0
    forward_passes: int = 0
    gradients: int = 0

    def since(self, before: Spent) -> Spent:
        """Return what was spent since an earlier account."""
        names = ("optimizer_steps", "forward_passes", "gradients")
        return Spent(*(getattr(self, name) - getattr(before, name) for name in names))

    def copy(self) -> Spent:
        """Return the account as it is now."""
        return Spent(self.optimizer_steps, self.forward_passes, self.gradients)


class Landscape:
    """Margins and gradients of single contexts at displaced weights.

    The trained parameters become views of one vector, so that moving along a direction is one pass over memory.

    Attributes:
        tuner: the model, its contexts and the settings.
        parameters: what is trained.
        base: its values at the base model, shape (parameters,).
        spent: forwards and gradients so far.
    """

    def __init__(self, tuner: FineTune) -> None:
        """Lay the trained parameters out as one vector.

        Args:
            tuner: the model as it is trained; its parameters' storage is replaced.

        Raises:
            UserError: the trained parameters are of several devices or dtypes, or sharded.
        """
        self.tuner, self.spent = tuner, Spent()
        self.parameters = [p for p in tuner.model.parameters() if p.requires_grad]
        kinds = {(str(p.device), str(p.dtype)) for p in self.parameters}
        if len(kinds) > 1 or any(hasattr(p, "full_tensor") for p in self.parameters):
            fix = "load the model onto one device, in one dtype"
            raise UserError("trained parameters lie apart", rule="one device and one dtype", found=kinds, fix=fix)
        tuner.restore()
        self.base = torch.cat([p.detach().flatten() for p in self.parameters])
        tuner.held_elsewhere(self._views(self.base))
        self._now = self.base.clone()
        self._factors = self._by_parameter(list(tuner.factors.values()))
        for view, parameter in zip(self._views(self._now), self.parameters, strict=True):
            parameter.data = view
        settings = tuner.training
        self._observer = Observer(tuner.model, tuner.tokenizer, tuner.targets, settings.geometry, settings.top_p)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Work without dropout, on as many threads as pay, and put mode, weights and threads back afterwards.

        Yields:
            Nothing.
        """
        modes = [(module, module.training) for module in self.tuner.model.modules()]
        self.tuner.model.eval()
        try:
            with as_many_as_pay(self.tuner.rehearse):
                yield
        finally:
            for module, mode in modes:
                module.training = mode
            self.home()

    def place(self, displacement: Tensor, scale: float = 1.0, kept: float = 1.0) -> None:
        """Set the weights to ``kept * base + scale * displacement``, times each parameter's factor on the rate.

        Args:
            displacement: shape (parameters,).
            scale: factor on it.
            kept: what weight decay leaves of the base weights, 1 without.
        """
        begin = self.base if kept == 1 else self.base * kept
        if self._factors is None:
            torch.add(begin, displacement, alpha=scale, out=self._now)
        else:
            torch.addcmul(begin, displacement, self._factors, value=scale, out=self._now)

    def step_kept(self, rate: float) -> float:
        """Return what the trained weights keep, in the mean, of a step of one rate's size.

        A step of AdamW moves a weight by the rate or less; added to it, it is rounded to the spacing of numbers there.

        Args:
            rate: learning rate.

        Returns:
            Mean of (fl(w + rate) - fl(w - rate)) / (2 rate) at the base weights: 1 where nothing is lost, 0 where each
            step is rounded away, and more than 1 where most are rounded up.
        """
        both = (((part + rate) - part) + (part - (part - rate)) for part in self.base.split(_CHUNK))
        return float(sum(moved.double().sum() for moved in both)) / (2 * rate * len(self.base))

    def home(self) -> None:
        """Put the base weights back."""
        self._now.copy_(self.base)

    def zeros(self, rows: int) -> Tensor:
        """Return a matrix for gradients, shape (rows, parameters)."""
        return self.base.new_zeros(rows, len(self.base))

    def logits(self, index: int) -> Tensor:
        """Return the logits of a context at the present weights, shape (1, V), unit nat."""
        self.spent.forward_passes += 1
        with torch.no_grad():
            return last_logits(self.tuner.model, [self.tuner.targets[index].ids])[0]

    def gradient(self, index: int, out: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the gradient of the loss at the present weights, all terms included; if joint, of all' mean.

        Args:
            index: the context.
            out: takes the gradient, clipped if the settings say so, shape (parameters,).

        Returns:
            The context's logits, shape (1, V), and the hidden state that the readout multiplied, shape (1, d), or
            None.
        """
        self.spent.forward_passes += 1
        self.spent.gradients += 1
        batch = range(len(self.tuner.targets)) if self.tuner.training.joint else [index]
        row = index if self.tuner.training.joint else 0
        logits, states = last_logits(self.tuner.model, [self.tuner.targets[i].ids for i in batch])
        found = torch.autograd.grad(self.tuner.loss(logits, batch), self.parameters, allow_unused=True)
        for view, gradient in zip(self._views(out), found, strict=True):
            view.zero_() if gradient is None else view.copy_(gradient)
        if self.tuner.training.clip:
            out.mul_(shrunk(out.norm(), self.tuner.training.clip))
        hidden = states[row : row + 1] if isinstance(states, Tensor) else None
        return logits[row : row + 1].detach(), hidden

    def margin(self, index: int, criterion: Criterion, logits: Tensor) -> float:
        """Return a criterion's margin, positive where gold counts as ahead; NaN where logits are not finite.

        Args:
            index: the context.
            criterion: what counts as ahead.
            logits: of the context at the present weights, shape (1, V).

        Returns:
            Unit nat for ``rank`` and ``top1``, 1 for ``born``.
        """
        target = self.tuner.targets[index]
        row = logits[0].double()
        if not bool(torch.isfinite(row.max())):
            return math.nan
        if criterion == "rank":
            return float(row[target.gold_id] - row[target.rival_id])
        gold, rival = torch.tensor([target.gold_id]), torch.tensor([target.rival_id])
        name = "top1_margin" if criterion == "top1" else "born_gap"
        geometry, top_p = self._observer.geometry(), self.tuner.training.top_p
        return float(measure(logits, geometry, gold, rival, only=[name], top_p=top_p)[name])

    def record(self, index: int, logits: Tensor, hidden: Tensor | None) -> Record:
        """Return the observables of a context at the present weights, as the reference loop's records have them."""
        return self._observer.records(logits, hidden, [index])[0]

    def _by_parameter(self, factors: list[float]) -> Tensor | None:
        """The factor on the rate of every number, shape (parameters,); None where all are 1."""
        if set(factors) == {1.0}:
            return None
        parts = [p.new_full((p.numel(),), factor) for p, factor in zip(self.parameters, factors, strict=True)]
        return torch.cat(parts)

    def _views(self, vector: Tensor) -> list[Any]:
        parts = vector.split([p.numel() for p in self.parameters])
        return [part.view(p.shape) for part, p in zip(parts, self.parameters, strict=True)]
