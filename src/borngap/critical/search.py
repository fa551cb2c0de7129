"""Critical rates of a model's contexts, by every way there is, behind one interface (docs/threshold.md)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from borngap.context import Context, Target
from borngap.critical.brackets import WIDTH, bisection, found, grid_search
from borngap.critical.calibration import around, collocation_half_width, half_width
from borngap.critical.collocation import solve
from borngap.critical.course import Course, pieces_for
from borngap.critical.dose import by_dose, dose_share, first_step
from borngap.critical.landscape import Landscape, Spent
from borngap.critical.record import SOLVED, WAYS, By, CriticalRate, RateStatus, class_mean
from borngap.critical.signpath import SEGMENTS, critical_dose
from borngap.critical.trials import Trials
from borngap.errors import UserError
from borngap.methods import METHODS
from borngap.model.load import Loaded
from borngap.model.readout import geometry_of
from borngap.optimisers import FACTS_OF
from borngap.rates import check_rate
from borngap.schedule import check_dose
from borngap.train.finetune import FineTune
from borngap.train.methods import stripped
from borngap.training import Training

_STANDARD_STEPS = 50
_SIGN_PATHS: dict[int, By] = {1: "ray", SEGMENTS: "path"}


@dataclass(frozen=True)
class ContextRate:
    """A context and its critical rate.

    Attributes:
        target: the context, as tokens.
        overlap: cosine overlap of gold and rival at the base model.
        critical: the rate.
        scope: what the rate holds of: the context trained alone, not a run on a data set.
    """

    target: Target
    overlap: float
    critical: CriticalRate
    scope: str

    def __repr__(self) -> str:
        """Say it in a line."""
        return f"<ContextRate of {self.target.words}: {self.critical.text} ({self.scope})>"


class Searcher:
    """Critical rates of one model's contexts, one context at a time, by one way.

    Attributes:
        solved: critical rates found by collocation so far; their median is where the next context begins.
        limit: largest rate that counts.
        training: the settings.
    """

    def __init__(
        self, loaded: Loaded, contexts: Sequence[Context], training: Training, *, limit: float | None = None
    ) -> None:
        """Prepare the model for training.

        Args:
            loaded: model and tokenizer; the model is changed.
            contexts: what would be trained on.
            training: the settings; its rate plays no part.
            limit: largest rate that counts; a default by method unless given.

        Raises:
            UserError: dropout is on, there are no steps, all have the rate 0, or the largest rate is not positive.
        """
        if training.dropout:
            raise UserError("no rate is the smallest under dropout", rule="dropout is random", fix="leave dropout off")
        check_dose(training.factors)
        self.training, self.name = training, loaded.name
        self.tuner = FineTune(loaded, contexts, training)
        self.land = Landscape(self.tuner)
        self._scale = first_step(self.land)
        self.limit = METHODS[training.method].largest * self._scale if limit is None else limit
        check_rate(self.limit, "the largest rate")
        self._class: str | None = None
        self.solved: list[float] = []
        self._geometry = geometry_of(self.tuner.model, training.geometry, self.tuner.tokenizer)
        pairs = torch.tensor([[t.gold_id, t.rival_id] for t in self.tuner.targets])
        self.overlaps: list[float] = self._geometry.overlap(pairs[:, 0], pairs[:, 1]).double().tolist()

    @property
    def contexts(self) -> range:
        """Indices of the contexts."""
        return range(len(self.tuner.targets))

    def share(self, time: float) -> float:
        """Return the share of the whole run's dose that is given by a time, unit 1."""
        return dose_share(time, self.training)

    def search(
        self,
        by: By | None = None,
        rates: Sequence[float] | None = None,
        on_context: Callable[[int], None] = lambda _: None,
    ) -> list[ContextRate]:
        """Find the critical rate of every context.

        Args:
            by: the way; the settings' usual one unless given.
            rates: of ``grid``; six a decade up to the largest rate unless given.
            on_context: called with the number of contexts done.

        Returns:
            One entry a context, in order.

        Raises:
            UserError: the way is unknown or not the optimiser's, or the rates are not positive and increasing.
        """
        by = by or usual_way(self.training)
        if by not in WAYS:
            raise UserError("unknown way to find a critical rate", rule=f"one of {', '.join(WAYS)}", found=by)
        if by in SOLVED and self.training.optimizer != "adamw":
            found, fix = FACTS_OF[self.training.optimizer].words, "use --by bisect, dose or grid, or leave --by out"
            raise UserError(f"--by {by} follows AdamW's updates alone", found=found, fix=fix)
        if by == "class-mean" and (found := " and ".join(self.training.terms)):
            raise UserError("--by class-mean is of the cross-entropy alone", found=found, fix="leave --by out")
        if rates is not None and by != "grid":
            raise UserError("rates are given", rule="only a grid takes them", found=by, fix="use --by grid")
        results: dict[int, CriticalRate] = {}
        with self.land.evaluating():
            for i, critical in self.each(by, self.contexts, rates):
                results[i] = critical
                on_context(len(results))
        scope = self.training.scope
        return [ContextRate(self.tuner.targets[i], self.overlaps[i], results[i], scope) for i in self.contexts]

    def each(
        self, by: By, contexts: Sequence[int], rates: Sequence[float] | None = None
    ) -> Iterator[tuple[int, CriticalRate]]:
        """Find the critical rates of some contexts, within ``land.evaluating()``.

        Args:
            by: the way.
            contexts: which.
            rates: of ``grid``.

        Yields:
            Context and critical rate as they are found, those first that the base model has resolved.
        """
        waiting = []
        for i in contexts:
            known = self._resolved(i, by)
            if known is None:
                waiting.append(i)
            else:
                yield i, known
        yield from self._ways(by, waiting, rates)

    def collocate(self, index: int, start: float | None = None) -> tuple[CriticalRate, Course]:
        """Solve one context by collocation.

        Args:
            index: which.
            start: rate to begin at.

        Returns:
            Its critical rate, and the course with the solution's gradients.
        """
        before = self.land.spent.copy()
        course = Course(self.land, index, self.training.criterion, pieces_for(self.training.method))
        # contexts of one model are alike: their middle is a better guess than a standard rate
        solution = solve(course, start or statistics.median(self.solved or [self.start]), self.limit)
        if solution.rate is not None:
            self.solved.append(solution.rate)
        low, high = around(solution.rate, collocation_half_width(solution.error, self.training.method))
        if solution.status == "beyond":
            low = self.limit
        kept = None if solution.rate is None else self.land.step_kept(solution.rate)
        rate = CriticalRate(solution.rate, low, high, solution.status, "collocation", solution.why, step_kept=kept)
        return self._booked(rate, before), course

    @property
    def start(self) -> float:
        """The rate at which a search begins that knows nothing yet."""
        usual = METHODS[self.training.method].rate * self._scale
        return min(self.limit, usual * _STANDARD_STEPS / sum(self.training.factors))

    def _ways(
        self, by: By, waiting: Sequence[int], rates: Sequence[float] | None
    ) -> Iterator[tuple[int, CriticalRate]]:
        if by in {"bisect", "grid"}:
            yield from self.by_runs(by, waiting, rates)
            return
        ways: dict[str, Callable[[int], CriticalRate]] = {
            "collocation": self._by_collocation,
            "dose": self._by_dose,
            "ray": partial(self._by_sign, segments=1),
            "path": partial(self._by_sign, segments=SEGMENTS),
            "class-mean": self._by_class,
        }
        for i in waiting:
            yield i, ways[by](i)

    def _resolved(self, index: int, by: By) -> CriticalRate | None:
        before = self.land.spent.copy()
        self.land.home()
        margin = self.land.margin(index, self.training.criterion, self.land.logits(index))
        if margin <= 0:
            return None
        status: RateStatus = "pre-resolved" if margin > 0 else "diverged"
        why = "gold is ahead before training" if margin > 0 else "the base model's logits are not finite"
        return self._booked(CriticalRate(None, None, None, status, by, why), before)

    def one(self, index: int) -> CriticalRate:
        """Return a context's critical rate by collocation, or by bisection where that finds none.

        Args:
            index: which.

        Returns:
            The rate; ``by`` says which way it was found.
        """
        usual = usual_way(self.training)
        known = self._resolved(index, usual) or self._by_collocation(index)
        if known.status not in {"abstained", "diverged"}:
            return known
        ((_, searched),) = self.by_runs("bisect", [index], None)
        return replace(
            searched,
            why=searched.why or f"collocation: {known.why}",
            forward_passes=searched.forward_passes + known.forward_passes,
        )

    def _by_collocation(self, index: int) -> CriticalRate:
        settings, reason = self.training, ""
        if settings.optimizer != "adamw":
            reason = f"it solves AdamW's updates alone, not those of {FACTS_OF[settings.optimizer].words}"
        if settings.joint and settings.batch_size < len(self.contexts):
            reason = "batches smaller than the set: use --by dose or bisect"
        if settings.weight_decay and set(self.tuner.factors.values()) != {1.0}:
            reason = "weight decay at two rates: use --by dose or bisect"
        if reason:
            return CriticalRate(None, None, None, "abstained", "collocation", reason)
        return self.collocate(index)[0]

    def _by_sign(self, index: int, segments: int) -> CriticalRate:
        before, by = self.land.spent.copy(), _SIGN_PATHS[segments]
        total = sum(self.training.factors)
        dose = critical_dose(self.land, index, self.training.criterion, self.limit * total, segments)
        if dose is None:
            why = f"the path does not meet the criterion up to the rate {self.limit:.3g}"
            return self._booked(CriticalRate(None, None, None, "abstained", by, why), before)
        low, high = around(dose / total, half_width(by, self.training.method))
        return self._booked(CriticalRate(dose / total, low, high, "ok", by), before)

    def _by_dose(self, index: int) -> CriticalRate:
        before = self.land.spent.copy()
        return self._booked(by_dose(self.land, index, self.start, self.limit), before)

    def by_runs(
        self, by: By, waiting: Sequence[int], rates: Sequence[float] | None
    ) -> Iterator[tuple[int, CriticalRate]]:
        """Search by real runs; LoRA runs of several contexts go through the model together.

        Args:
            by: ``bisect`` or ``grid``.
            waiting: contexts.
            rates: of ``grid``.

        Yields:
            Context and critical rate; what was done together is booked in equal parts.
        """
        settings = self.training
        trials = Trials(self.land, settings.criterion, settings.seed)
        groups = [waiting] if settings.joint or trials.stacks else [[i] for i in waiting]
        for group in groups:
            before = self.land.spent.copy()
            if by == "grid":
                brackets = grid_search(group, trials, rates or self._grid())
            else:
                brackets = bisection(group, trials, dict.fromkeys(group, self.start), self.limit, self.share, WIDTH)
            spent = self.land.spent.since(before)
            for i in group:
                result = found(brackets[i], by, self.limit)
                parts = (round(spent.optimizer_steps / len(group)), round(spent.forward_passes / len(group)))
                yield i, replace(result, optimizer_steps=parts[0], forward_passes=parts[1])

    def _grid(self) -> list[float]:
        count = math.ceil(6 * math.log10(self.limit / (self.start / 100)))
        return [self.limit * 10 ** (-k / 6) for k in range(count, -1, -1)]

    @property
    def embedding_class(self) -> str:
        """Class of the geometry's bulk at the base weights: ``A``, ``B`` or ``intermediate``."""
        if self._class is None:
            self.land.home()
            self._class = self._geometry.bulk().embedding_class
        return self._class

    def class_rate(self, index: int) -> float | None:
        """Return a context's critical rate by the paper's class-mean rule, AdamW's; None where it has none."""
        if self.training.optimizer != "adamw" or self.training.terms:
            return None
        mean = sum(self.overlaps) / len(self.overlaps)
        return class_mean(self.overlaps[index], mean, self.embedding_class, METHODS[self.training.method].rate)

    def _by_class(self, index: int) -> CriticalRate:
        rate = self.class_rate(index)
        if rate is None:
            kind = self.embedding_class
            why = f"the class-mean rule has no field for an embedding of class {kind}, or for an overlap not positive"
            return CriticalRate(None, None, None, "abstained", "class-mean", why)
        low, high = around(rate, half_width("class-mean", self.training.method))
        return CriticalRate(rate, low, high, "ok", "class-mean")

    def _booked(self, critical: CriticalRate, before: Spent) -> CriticalRate:
        spent = self.land.spent.since(before)
        return replace(critical, optimizer_steps=spent.optimizer_steps, forward_passes=spent.forward_passes)


def critical_rates(
    loaded: Loaded,
    contexts: Sequence[Context],
    training: Training,
    by: By | None = None,
    *,
    limit: float | None = None,
    rates: Sequence[float] | None = None,
    on_context: Callable[[int], None] = lambda _: None,
) -> list[ContextRate]:
    """Return the smallest learning rate at which each context resolves within ``training.steps`` steps.

    Each is trained alone unless the settings are joint; a run on a data set moves it far less (``Training.scope``).

    Args:
        loaded: model and tokenizer; the model is prepared for training, its weights end as they began.
        contexts: what would be trained on, each alone or, if the settings say so, jointly.
        training: the settings; method, steps, criterion, optimiser, schedule and seed count, the rate does not.
        by: ``collocation``, ``path``, ``ray`` (no optimiser step); ``dose`` (at most ``steps`` of them); ``bisect``,
            ``grid`` (real runs); ``class-mean`` (the paper's rule). Unless given ``collocation``, or ``bisect`` under
            other optimisers than AdamW.
        limit: largest rate that counts: full 1e-2, LoRA and readout-only 1e-1 unless given; under other optimisers the
            rate whose first update moves the weights as far.
        rates: of ``grid``, increasing.
        on_context: called with the number of contexts done.

    Returns:
        One entry a context. Intervals are 90 %, calibrated on the bundled models; of a search, its bracket.

    Raises:
        UserError: the settings, the way or the rates are not possible.
    """
    return Searcher(loaded, contexts, training, limit=limit).search(by, rates, on_context)


def usual_way(training: Training) -> By:
    """Return how rates are found unless told otherwise: those of other optimisers than AdamW by runs."""
    return "collocation" if training.optimizer == "adamw" else "bisect"


def critical_entry(index: int, entry: ContextRate) -> dict[str, Any]:
    """Return a critical rate JSON-ready.

    Args:
        index: number of the context, from 0.
        entry: the context and its critical rate.

    Returns:
        ``context``, ``prompt``, ``gold``, ``rival``, ``gold_overlap``, ``critical_rate``, ``low``, ``high``,
        ``status``, ``why``, ``by``, ``optimizer_steps``, ``forward_passes``, ``step_kept``.
    """
    context, c = entry.target.context, entry.critical
    head = {"context": index, "prompt": context.prompt, "gold": context.gold, "rival": context.rival}
    rates = {"gold_overlap": entry.overlap, "critical_rate": c.rate, "low": c.low, "high": c.high}
    rest = ("status", "why", "by", "optimizer_steps", "forward_passes", "step_kept")
    return head | rates | {key: getattr(c, key) for key in rest}


def unwrapped(searcher: Searcher, loaded: Loaded) -> Loaded:
    """Return the plain base model again, its weights as they were.

    Args:
        searcher: one that prepared the model.
        loaded: what it was given.

    Returns:
        A loaded model that can be prepared again.
    """
    searcher.land.home()
    return replace(loaded, model=stripped(searcher.tuner.model))
