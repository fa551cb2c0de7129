"""The optimiser of every training here: clipping, the rate of the moment, updates; of one model or of stacked rows.

AdamW unless the settings name another, which ``borngap.train.otheroptimisers`` makes.

Update n = 1, 2, ... of the weights w, g being the loss gradient there and c the largest norm::

    g  <-  g min(1, c / (|g| + 1e-6))
    m_n = beta1 m_(n-1) + (1 - beta1) g,    v_n = beta2 v_(n-1) + (1 - beta2) g^2
    w  <-  (1 - rate_n decay) w  -  rate_n (m_n / (1 - beta1^n)) / (sqrt(v_n / (1 - beta2^n)) + eps)

with ``rate_n`` the rate times the schedule's factor. Source: Loshchilov and Hutter, arXiv 1711.05101, algorithm 2, as
``torch.optim.AdamW`` and ``torch.nn.utils.clip_grad_norm_`` have it. ``borngap.critical.pieces`` sums many updates at
once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from borngap.train.averaged import evaluated
from borngap.train.otheroptimisers import MAKERS, Steps
from borngap.training import Training


class Updates:
    """The updates of one run."""

    def __init__(
        self,
        parameters: Sequence[Tensor],
        training: Training,
        rate: float | None = None,
        factors: Sequence[float] | None = None,
        matrices: Collection[int] = (),
    ) -> None:
        """Begin before the first update.

        Args:
            parameters: what is trained.
            training: the settings.
            rate: learning rate instead of the settings' own.
            factors: on the rate of each parameter; all 1 unless given.
            matrices: identities of the parameters that are hidden layers' matrices, which Muon trains.

        Raises:
            UserError: the settings' optimiser is not installed, or has nothing to train here.
        """
        chosen = training.learning_rate if rate is None else rate
        groups = grouped(parameters, [1.0] * len(parameters) if factors is None else factors)
        if training.optimizer == "adamw":
            self._optimiser: Steps = _of_training(groups, chosen, training)
        else:
            self._optimiser = MAKERS[training.optimizer](groups, chosen, training, matrices)
        self._clip, self._averages = training.clip, training.averages
        # schedule-free training warms up by itself, and weighs its mean by the rate
        self._rates = (chosen * (1.0 if self._averages else factor) for factor in training.factors)

    def take(self, loss: Tensor) -> None:
        """Do the next update.

        Args:
            loss: of the parameters as they are, a scalar; its graph is freed.
        """
        descend(self._optimiser, loss, next(self._rates), self._clip)

    def evaluated(self) -> AbstractContextManager[None]:
        """Put the weights of evaluation in place for a while, where they are others than those of training."""
        return evaluated(self._optimiser) if self._averages else nullcontext()

    def finish(self) -> None:
        """Leave the weights of evaluation in place, for whoever uses the trained model."""
        if self._averages:
            self._optimiser.eval()  # type: ignore[attr-defined]


class RowUpdates:
    """The updates of many runs at once, each with weights, moments, rate and clipping of its own.

    Attributes:
        rows: name of a parameter -> its values in all runs, shape (R, *shape); new tensors after ``keep``.
    """

    def __init__(
        self,
        rows: Mapping[str, Tensor],
        rates: Sequence[float],
        training: Training,
        factors: Mapping[str, float] | None = None,
    ) -> None:
        """Begin before the first update.

        Args:
            rows: the weights; changed in place.
            rates: learning rate of each run, equal ones next to each other.
            training: the settings; its rate plays no part.
            factors: on the rate of each parameter, by name; all 1 unless given.
        """
        self.rows, self._clip = dict(rows), training.clip
        self._factors = iter(training.factors)
        own = dict.fromkeys(self.rows, 1.0) if factors is None else factors
        groups, start = list[dict[str, Any]](), 0
        for rate in dict.fromkeys(rates):
            end = start + list(rates).count(rate)
            for factor in dict.fromkeys(own[name] for name in self.rows):
                names = [name for name in self.rows if own[name] == factor]
                parts = [self.rows[name][start:end] for name in names]
                groups.append({"params": parts, "names": names, "rate": rate * factor, "start": start})
            start = end
        self._optimiser = _of_training(groups, rates[0], training)

    def take(self, gradients: Sequence[Tensor | None]) -> None:
        """Do the next update.

        Args:
            gradients: of the rows, in their order; None where nothing depends on them.
        """
        if self._clip:
            norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients if g is not None]).norm(dim=0)
            kept = shrunk(norms, self._clip)
            gradients = [None if g is None else g * kept.view(-1, *[1] * (g.ndim - 1)) for g in gradients]
        factor, named = next(self._factors), dict(zip(self.rows, gradients, strict=True))
        for group in self._optimiser.param_groups:
            group["lr"] = group["rate"] * factor
            own = slice(group["start"], group["start"] + len(group["params"][0]))
            for name, parameter in zip(group["names"], group["params"], strict=True):
                gradient = named[name]
                # the fused kernel walks through both in the parameter's order
                parameter.grad = None if gradient is None else gradient[own].contiguous()
        self._optimiser.step()
        self._optimiser.zero_grad()

    def keep(self, going: Sequence[int]) -> None:
        """Let all runs but some end: neither their weights nor their moments take part any more.

        Args:
            going: places among the rows, increasing.
        """
        self.rows = {name: values[list(going)] for name, values in self.rows.items()}
        for group in self._optimiser.param_groups:
            start, end = group["start"], group["start"] + len(group["params"][0])
            kept = [row - start for row in going if start <= row < end]
            group["start"] = sum(row < start for row in going)
            for name, parameter in zip(group["names"], group["params"], strict=True):
                parameter.data = self.rows[name][group["start"] : group["start"] + len(kept)]
                state = self._optimiser.state.get(parameter, {})
                for moment in state.keys() & {"exp_avg", "exp_avg_sq"}:
                    state[moment] = state[moment][kept]
        self._optimiser.param_groups = [group for group in self._optimiser.param_groups if len(group["params"][0])]


def adamw(
    parameters: Iterable[Any], rate: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> torch.optim.AdamW:
    """Return torch's AdamW, fused as the hosts' default is: other variants round differently.

    Args:
        parameters: what is trained, or groups of it.
        rate: learning rate.
        betas: decays of the mean gradient and of the mean squared gradient.
        eps: what is added to the root.
        weight_decay: decoupled from the gradient.

    Returns:
        The optimiser.
    """
    return torch.optim.AdamW(parameters, lr=rate, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)


def descend(optimiser: Steps, loss: Tensor, rate: float, clip: float) -> None:
    """Do one update of all that an optimiser holds.

    Args:
        optimiser: without gradients yet.
        loss: a scalar; its graph is freed.
        rate: learning rate of this update; a group's own ``factor`` on it counts.
        clip: largest global gradient norm; 0 for no clipping.
    """
    loss.backward()
    if clip:
        torch.nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], clip)
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
    optimiser.step()
    optimiser.zero_grad()


def grouped(parameters: Sequence[Tensor], factors: Sequence[float]) -> list[dict[str, Any]]:
    """Return an optimiser's groups, one a factor on the rate.

    Args:
        parameters: what is trained.
        factors: one a parameter, positive.

    Returns:
        Groups with ``params`` and ``factor``, in the order of their first parameters.
    """
    pairs = list(zip(parameters, factors, strict=True))
    return [{"params": [p for p, f in pairs if f == one], "factor": one} for one in dict.fromkeys(factors)]


def shrunk(norm: Tensor, clip: float) -> Tensor:
    """Return the factor by which clipping shrinks gradients of such norms, unit 1, in (0, 1]."""
    return (clip / (norm + 1e-6)).clamp(max=1.0)


def _of_training(parameters: Iterable[Any], rate: float, training: Training) -> torch.optim.AdamW:
    return adamw(parameters, rate, (training.beta1, training.beta2), training.eps, training.weight_decay)
