"""One pilot trained: the run's own loss and optimiser on the rows of a pilot, from the weights as they are."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from borngap.data.tokenised import IGNORED, Tokens
from borngap.losses.crowding import penalty_term
from borngap.losses.form import Penalty
from borngap.pilot.draw import PilotSteps
from borngap.pilot.plan import StepPlan
from borngap.pilot.rows import model_inputs, taught
from borngap.rivals.rivalloss import RivalLoss
from borngap.train.methods import rate_factor
from borngap.train.optimiser import adamw, descend, grouped
from borngap.training import Training

# what transformers' Trainer keeps from weight decay
_UNDECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")
# a pilot whose loss ends so far above its start, or is on the way so far above it, has left the stable range
_RISEN, _EXPLODED = 1.15, 2.0
_ENDS = 3  # steps at least that a mean of losses is taken over: a step of one row says little
_SURE = 1.64  # standard deviations of a mean by which a loss must have risen beyond that, 19 in 20 sure
ModelLoss = Callable[[Any], Tensor]
"""What is added to the loss of an update, of the model alone: a scalar with a gradient."""
RowLoss = Callable[[Any, Sequence[Tokens]], Tensor]
"""The loss of a model on some rows, summed over their supervised tokens: a scalar with a gradient."""


@dataclass(frozen=True)
class PilotCourse:
    """How a pilot went.

    Attributes:
        losses: mean loss of a token, of each step before its update, unit nat.
        tokens: read forward and backward.
        passes: rows forward and backward.
        is_stable: whether its loss stayed finite and did not rise above its start.
    """

    losses: tuple[float, ...]
    tokens: int
    passes: int
    is_stable: bool


class Trainee:
    """A model that pilots train again and again, each from the same weights.

    Attributes:
        model: as it is trained, with its adapters.
    """

    def __init__(
        self, model: Any, *, dropout: bool = False, loss: RowLoss | None = None, penalty: ModelLoss | None = None
    ) -> None:
        """Keep the weights that are trained.

        Args:
            model: a Hugging Face causal LM, its adapters in place and ``requires_grad`` set.
            dropout: whether dropout is on while it is trained.
            loss: of a batch, summed over its supervised tokens; ``token_loss`` unless given.
            penalty: what is added once an update; it is no part of the losses that are told, which are of tokens.
        """
        self.model, self._dropout, self._loss, self._penalty = model, dropout, loss or token_loss, penalty
        self._named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._initial = [p.detach().clone() for _, p in self._named]

    def restore(self) -> None:
        """Put the initial weights back."""
        with torch.no_grad():
            for (_, parameter), value in zip(self._named, self._initial, strict=True):
                parameter.copy_(value)
                parameter.grad = None

    def train(
        self, plan: StepPlan, pilot: PilotSteps, seed: int, on_step: Callable[[int], None] = lambda _: None
    ) -> PilotCourse:
        """Train a pilot; the weights stay as they end.

        Args:
            plan: the run.
            pilot: its rows and rates.
            seed: of dropout.
            on_step: called with the number of steps done.

        Returns:
            How it went; a pilot that leaves the stable range ends there.
        """
        self.restore()
        optimiser, losses = self._optimiser(plan.training, pilot.span), list[float]()
        edges = [0.0, *accumulate(pilot.spans)]
        with self._training(seed):
            for number, (indices, rate) in enumerate(zip(pilot.rows, pilot.rates, strict=True), 1):
                if pilot.spans:
                    remember(optimiser, plan.training, pilot.spans[number - 1], edges[number - 1])
                losses.append(self._step(optimiser, plan, [plan.rows[i] for i in indices], rate))
                on_step(number)
                if pilot.span > 1 and _explodes(losses):
                    break
        done = [i for step in pilot.rows[: len(losses)] for i in step]
        # the run itself goes wherever it goes
        stable = pilot.span == 1 or not (_explodes(losses) or _has_risen(losses))
        return PilotCourse(tuple(losses), plan.row_tokens(done), len(done), stable)

    @contextmanager
    def _training(self, seed: int) -> Iterator[None]:
        before = self.model.training
        self.model.train(self._dropout)
        try:
            with torch.random.fork_rng(enabled=self._dropout):
                if self._dropout:
                    torch.manual_seed(seed)
                yield
        finally:
            self.model.train(before)

    def _optimiser(self, training: Training, span: float) -> torch.optim.AdamW:
        kept = self._undecayed() if training.weight_decay else set()
        groups = []
        for decay, without in ((training.weight_decay, False), (0.0, True)):
            own = {name: p for name, p in self._named if (id(p) in kept) == without}
            alike = grouped(list(own.values()), [rate_factor(name, training) for name in own])
            groups += [group | {"weight_decay": decay} for group in alike]
        return adamw(groups, 0.0, (training.beta1**span, training.beta2**span), training.eps, 0.0)

    def _undecayed(self) -> set[int]:
        """What Trainer keeps from weight decay, by identity."""
        norms = (m for m in self.model.modules() if isinstance(m, torch.nn.LayerNorm))
        named = {id(p) for name, p in self._named if _UNDECAYED.search(name.lower())}
        return named | {id(p) for norm in norms for p in norm.parameters()}

    def _step(self, optimiser: torch.optim.Optimizer, plan: StepPlan, rows: Sequence[Tokens], rate: float) -> float:
        """One update, in parts of the run's own batch size; return the mean loss of a token."""
        size, targets = plan.training.batch_size, max(1, sum(map(taught, rows)))
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        total = 0.0
        for part in parts[:-1]:
            loss = self._loss(self.model, part) / targets
            loss.backward()
            total += float(loss.detach())
        loss = self._loss(self.model, parts[-1]) / targets
        whole = loss if self._penalty is None else loss + self._penalty(self.model)
        descend(optimiser, whole, rate, plan.training.clip)
        return total + float(loss.detach())


def remember(optimiser: torch.optim.Optimizer, training: Training, span: float, behind: float) -> None:
    """Let AdamW's next update forget, and correct its bias, as many updates of the run do.

    Args:
        optimiser: its AdamW.
        training: the run's settings.
        span: how many updates the next one stands for.
        behind: how many the ones before it stand for: its bias correction is 1 - beta^(behind + span).
    """
    for group in optimiser.param_groups:
        group["betas"] = (training.beta1**span, training.beta2**span)
    for state in optimiser.state.values():
        state["step"].fill_(behind / span)  # the update itself adds one


def token_loss(model: Any, rows: Sequence[Tokens]) -> Tensor:
    """Return the summed cross-entropy of the supervised tokens of rows, as transformers' causal LMs have it.

    Args:
        model: a Hugging Face causal LM.
        rows: at least one.

    Returns:
        A scalar, unit nat.
    """
    inputs = model_inputs(rows, model.get_input_embeddings().weight.device)
    labels = torch.nn.functional.pad(inputs.pop("labels"), (0, 1), value=-100)[:, 1:]
    logits = model(**inputs).logits.float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")


def rival_row_loss(loss: RivalLoss) -> RowLoss:
    """Return cross-entropy and a loss on rivals, summed over the supervised tokens of rows, as a host sums them up.

    Args:
        loss: its words are found in the labels of each row, as in a host's batch: the first label of a row counts for
            what word stands there, though nothing predicts it; of packed rows hosts mask it.

    Returns:
        What takes model and rows; unit nat.
    """

    def summed(model: Any, rows: Sequence[Tokens]) -> Tensor:
        inputs = model_inputs(rows, model.get_input_embeddings().weight.device)
        labels = inputs.pop("labels")
        first = [IGNORED if len(row.documents) > 1 else row.labels[d.start] for row in rows for d in row.documents]
        labels[:, 0] = torch.tensor(first, device=labels.device)
        return loss(model(**inputs).logits, labels, 1)

    return summed


def model_penalty(penalty: Penalty | None, pairs: Sequence[tuple[int, int]]) -> ModelLoss | None:
    """Return a penalty on a model's output matrix.

    Args:
        penalty: which; None for none.
        pairs: right tokens and their rivals, one at least for ``overlap``.

    Returns:
        What takes a model; None of none.
    """
    if penalty is None:
        return None
    return lambda model: penalty_term(penalty, model.get_output_embeddings().weight, pairs)


def loss_ends(losses: Sequence[float]) -> tuple[float, float]:
    """Return the mean loss at the start and at the end of a pilot: of a quarter of its steps, three at least."""
    size = max(_ENDS, len(losses) // 4)
    return fmean(losses[:size]), fmean(losses[-size:])


def _explodes(losses: Sequence[float]) -> bool:
    return not math.isfinite(losses[-1]) or fmean(losses[-_ENDS:]) > _EXPLODED * fmean(losses[:_ENDS])


def _has_risen(losses: Sequence[float]) -> bool:
    start, end = loss_ends(losses)
    # half the mean square of differences is the variance of a step, whatever the trend (von Neumann, 1941)
    noise = fmean((b - a) ** 2 for a, b in pairwise(losses)) / 2 if len(losses) > 1 else 0.0
    apart = 2 * noise / max(_ENDS, len(losses) // 4)
    return end > _RISEN * start + _SURE * math.sqrt(apart)
