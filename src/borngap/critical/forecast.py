"""Forecast: how a planned fine-tuning will end, before any training (docs/threshold.md)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from borngap.context import Context, Target
from borngap.critical.course import Course, pieces_for
from borngap.critical.record import CriticalRate, Prospect, combined, prospect
from borngap.critical.search import ContextRate, Searcher, critical_entry, unwrapped
from borngap.errors import UserError
from borngap.judge.trajectory import MARGINS, Trajectory, from_records
from borngap.judge.verdicts import Outcome, outcome
from borngap.methods import METHODS, WHOLE
from borngap.model.load import Loaded
from borngap.train.observe import Record
from borngap.training import USUAL_LORA_RATES, Training

_SWEEPS = 6
_MOST_PIECES = 24
_SETTLED_MARGINS = 0.02
_END_IDS = (
    "born_gap", "signal", "drag", "logit_gap", "top1_margin", "gold_probability", "rival_probability",
)  # fmt: skip


@dataclass(frozen=True)
class Forecast:
    """What is to be expected of one context that is trained alone; a run on a data set moves it far less.

    Attributes:
        target: the context, as tokens.
        overlap: cosine overlap of gold and rival at the base model.
        planned: the planned learning rate.
        critical: the critical rate.
        prospect: what the planned rate means against it.
        outcome: outcome by the criterion at the planned rate; None if not known. Of several seeds, and ``end`` with it,
            that of the seed whose final margin is the median (the lower one of two).
        outcomes: how many seeds end in which outcome.
        end: observables at the end of the planned run, by id; empty if not known.
        outcome_by: ``collocation``, or ``run`` where a real run had to answer.
        lora: critical rate under LoRA with the same steps; abstained where the model has no layers for it, None if it
            was not asked for.
        class_rate: the critical rate by the paper's class-mean rule; None where it has none.
        embedding_class: ``A``, ``B`` or ``intermediate``; the paper expects LoRA to suffice in class B.
        scope: what all of this holds of, in words.
    """

    target: Target
    overlap: float
    planned: float
    critical: CriticalRate
    prospect: Prospect
    outcome: Outcome | None
    outcomes: dict[str, int]
    end: dict[str, float | None]
    outcome_by: str
    lora: CriticalRate | None
    class_rate: float | None
    embedding_class: str
    scope: str

    def __repr__(self) -> str:
        """Say it in a line."""
        plan = f"planned {self.planned:.3g}: {self.prospect}"
        return f"<Forecast of {self.target.words}: {self.critical.text}, {plan} ({self.scope})>"

    @property
    def lora_does(self) -> bool | None:
        """Whether LoRA resolves the context at a rate that people use, up to 1e-3; None if not known."""
        if self.lora is None or self.lora.status in {"abstained", "diverged"}:
            return None
        if self.lora.status == "pre-resolved":
            return True
        return self.lora.rate is not None and self.lora.rate <= USUAL_LORA_RATES[1]

    @property
    def will_resolve(self) -> bool | None:
        """Whether gold is ahead at the end: True above the interval, False below, None within or where it is not known.

        Above the interval gold comes ahead; a solved run that loses the lead again says False, and one that says
        something else than the rate does, None.
        """
        if self.prospect == "pre-resolved":
            return self.outcome != "lost"
        if self.prospect == "will resolve":
            return {"resolved": True, None: True, "relapsed": False}.get(self.outcome)
        return None if self.prospect != "will fail" or self.outcome == "resolved" else False


def forecast(
    loaded: Loaded,
    contexts: Sequence[Context],
    training: Training,
    *,
    seeds: Sequence[int] | None = None,
    limit: float | None = None,
    lora: bool = True,
    on_context: Callable[[int], None] = lambda _: None,
) -> list[Forecast]:
    """Forecast a planned fine-tuning by collocation; a real run answers where that does not converge.

    It holds of each context trained alone, all steps on its one prompt; a run on a data set moves it far less.

    Args:
        loaded: model and tokenizer; the model is prepared for training, its weights end as they began.
        contexts: what is to be trained on.
        training: the plan: method, rate, steps, optimiser, schedule, criterion.
        seeds: of LoRA's initial matrices; the settings' own unless given. Intervals carry their spread.
        limit: largest rate that counts.
        lora: whether to say if LoRA would do, where the plan trains the model's own matrices.
        on_context: called with the number of contexts forecast.

    Returns:
        One entry a context.

    Raises:
        UserError: the plan is joint or has dropout on, which collocation does not cover, or it is not possible.
    """
    _check(training)
    runs: list[list[tuple[CriticalRate, End]]] = []
    searcher: Searcher | None = None
    for seed in seeds if seeds and METHODS[training.method].drawn else [training.seed]:
        loaded = loaded if searcher is None else unwrapped(searcher, loaded)
        searcher = Searcher(loaded, contexts, replace(training, seed=seed), limit=limit)
        runs.append(_look_ahead(searcher, on_context, len(runs) * len(contexts)))
    assert searcher is not None  # noqa: S101  # there is at least one seed
    with_lora = _under_lora(searcher, loaded, contexts, training, limit) if lora else None
    return [_entry(searcher, i, [run[i] for run in runs], with_lora) for i in searcher.contexts]


def rate_to_use(forecasts: Sequence[Forecast]) -> float | None:
    """Return the smallest rate above every known interval, for contexts each trained alone; None if none is known."""
    highs = [f.critical.high for f in forecasts if f.critical.status == "ok" and f.critical.high is not None]
    return max(highs, default=None)


@dataclass(frozen=True)
class End:
    """How a run ends.

    Attributes:
        outcome: by the criterion.
        values: observables after the last step, by id.
        by: ``collocation`` or ``run``.
    """

    outcome: Outcome | None
    values: dict[str, float | None]
    by: str


def typical(ends: Sequence[End], training: Training) -> End:
    """Return the end of the seed whose final margin is the median, the lower one of two; unknown margins count lowest.

    Args:
        ends: one a seed, at least one.
        training: names the criterion.

    Returns:
        One of them, whole, so that its outcome and its numbers belong together.
    """

    def margin(end: End) -> float:
        value = end.values.get(MARGINS[training.criterion])
        return -math.inf if value is None or math.isnan(value) else value

    return sorted(ends, key=margin)[(len(ends) - 1) // 2]


def at_rate(searcher: Searcher, index: int) -> End:
    """Say how a run at the settings' own rate ends, by collocation or, where sweeps do not settle, by running it.

    Args:
        searcher: the model, in evaluation.
        index: the context.

    Returns:
        Its end.
    """
    solved = _planned(searcher, index)
    return solved if solved is not None else _real_run(searcher, index)


def _check(training: Training) -> None:
    if training.joint:
        fix = "forecast the contexts alone, or use `borngap critical --joint --by dose`"
        raise UserError("a joint run can't be forecast", rule="contexts are forecast each alone", fix=fix)
    if training.dropout:
        raise UserError("a run with dropout can't be forecast", rule="dropout is random", fix="leave dropout off")


def _look_ahead(searcher: Searcher, on_context: Callable[[int], None], before: int) -> list[tuple[CriticalRate, End]]:
    found = []
    with searcher.land.evaluating():
        for i in searcher.contexts:
            found.append((searcher.one(i), at_rate(searcher, i)))
            on_context(before + len(found))
    return found


def _planned(searcher: Searcher, index: int) -> End | None:
    """Solve the planned run on a coarse grid; None if sweeps do not settle, or AdamW is not what updates."""
    training = searcher.training
    if training.optimizer != "adamw":
        return None
    course = Course(searcher.land, index, training.criterion, 2 * pieces_for(training.method))
    while True:
        path = _settled(course, training.learning_rate)
        if path is not None:
            last = {name: path.values[name][-1] for name in _END_IDS}
            values = {name: None if math.isnan(value) else value for name, value in last.items()}
            return End(outcome(path, training.criterion), values, "collocation")
        if 2 * course.pieces > min(_MOST_PIECES, training.steps):
            return None
        course.refine()


def _settled(course: Course, rate: float) -> Trajectory | None:
    """Sweep until the margins at the nodes stay where they are; return the nodes' records."""
    records: list[tuple[int, Record]] = []

    def see(number: int, logits: Tensor, hidden: Tensor | None) -> None:
        records.append((course.nodes[number], course.record(logits, hidden)))

    cold = True
    for _ in range(_SWEEPS):
        before = list(course.margins)
        records[:] = [(0, course.first)]
        course.sweep(rate, cold=cold, see=see)
        change = max(abs(a - b) for a, b in zip(course.margins, before, strict=True))
        if not cold and change <= _SETTLED_MARGINS * max(map(abs, course.margins)):
            return from_records(records)
        cold = False
    return None


def _real_run(searcher: Searcher, index: int) -> End:
    searcher.land.home()
    steps = list(searcher.tuner.alone(index, rate=searcher.training.learning_rate))
    searcher.land.spent.optimizer_steps += len(steps) - 1
    searcher.land.spent.forward_passes += len(steps)
    path = from_records([(step.step, step.records[index]) for step in steps])
    return End(
        outcome(path, searcher.training.criterion), {n: steps[-1].records[index].get(n) for n in _END_IDS}, "run"
    )


def _under_lora(
    searcher: Searcher, loaded: Loaded, contexts: Sequence[Context], training: Training, limit: float | None
) -> list[CriticalRate] | None:
    if training.method not in WHOLE:
        return None
    plain = unwrapped(searcher, loaded)
    settings = training.under("lora", rank=training.lora_rank)
    try:
        again = Searcher(plain, contexts, settings, limit=limit)
    except UserError as error:  # the plan itself stands without it
        left_out = CriticalRate(None, None, None, "abstained", "collocation", f"{error.what} ({error.found})")
        return [left_out] * len(contexts)
    found = [entry.critical for entry in again.search()]
    unwrapped(again, plain)
    return found


def _entry(
    searcher: Searcher, index: int, runs: Sequence[tuple[CriticalRate, End]], lora: list[CriticalRate] | None
) -> Forecast:
    critical = combined([critical for critical, _ in runs])
    end = typical([end for _, end in runs], searcher.training)
    planned = searcher.training.learning_rate
    under = critical if searcher.training.method == "lora" else lora[index] if lora else None
    return Forecast(
        target=searcher.tuner.targets[index],
        overlap=searcher.overlaps[index],
        planned=planned,
        critical=critical,
        prospect=prospect(critical, planned),
        outcome=end.outcome,
        outcomes=dict(Counter(str(end.outcome) for _, end in runs)),
        end=end.values,
        outcome_by=end.by,
        lora=under,
        class_rate=searcher.class_rate(index),
        embedding_class=searcher.embedding_class,
        scope=searcher.training.scope,
    )


def forecast_entry(index: int, entry: Forecast) -> dict[str, Any]:
    """Return a forecast JSON-ready.

    Args:
        index: number of the context, from 0.
        entry: its forecast.

    Returns:
        The keys of ``critical_entry`` and those of the plan.
    """
    c = entry.critical
    head = critical_entry(index, ContextRate(entry.target, entry.overlap, c, entry.scope))
    ratio = None if c.rate is None else entry.planned / c.rate
    plan: dict[str, Any] = {"planned_rate": entry.planned, "planned_over_critical": ratio, "prospect": entry.prospect}
    plan |= {"will_resolve": entry.will_resolve, "outcome": entry.outcome, "outcomes": entry.outcomes}
    plan["outcome_by"] = entry.outcome_by
    plan["end"] = {name: _finite(value) for name, value in entry.end.items()}
    lora = entry.lora
    plan["lora"] = None
    if lora is not None:
        plan["lora"] = {"critical_rate": lora.rate, "status": lora.status, "why": lora.why, "does": entry.lora_does}
    paper = {"critical_rate": entry.class_rate, "embedding_class": entry.embedding_class}
    return head | plan | {"class_mean": paper | {"lora_suffices": {"A": False, "B": True}.get(entry.embedding_class)}}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
