"""What a budget buys: how many places are watched, how many steps a pilot has, and how many rows each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from borngap.errors import UserError
from borngap.methods import WHOLE, Method
from borngap.pilot.estimates import NOISE
from borngap.pilot.plan import StepPlan
from borngap.pilot.settings import FEWEST_STEPS
from borngap.training import Training

FORWARD_BACKWARD = 3  # forward and backward of a token, in forwards of one
SHARE = 0.5  # rows of a pilot's step over those of a run's
LONGEST_SPAN = 10.0  # steps of the run that one of the pilot's stands for, while its steps have enough rows
ADAPTER_SPAN = 2.0  # the shortest under adapters: larger batches do more than steps that are shorter still
ADAPTER_RATE = 1e-2  # of a pilot's steps under LoRA, at a scale (alpha over rank) of 2: larger ones go too far
LORA_SCALED: tuple[Method, ...] = ("lora", "dora", "pissa")  # whose scale is alpha over rank
# by which what a run of AdamW changes grows with the rows of its batches (docs/forecast-runs-measured.md)
BATCH_POWER = 0.17
LORA_NOISE = 290.0  # rows a unit of dose: variance of a LoRA pilot's noise over that of what places do by themselves
FULL_NOISE = 620.0  # rows a root of the dose: the same of full fine-tuning
_LEAST_NOISE = 0.1
_WATCHING = 1 / 3  # of the budget, at most, goes into looks at the watched places
_FEWEST_ROWS = 2  # of all weights; of adapters 1
_SHORTER = 1.5  # times as many steps, at least, for a pilot that is to stay in the stable range where one did not


@dataclass(frozen=True)
class Design:
    """How a budget is spent at one rate.

    Attributes:
        pilots: how many.
        steps: of each.
        share: rows of a pilot's step over those of a run's.
    """

    pilots: int
    steps: int
    share: float

    def rows(self, plan: StepPlan) -> float:
        """Return how many rows all pilots read in a run like this one, each as often as it is read."""
        return self.pilots * self.steps * self.share * plan.step_rows


def lengthened(base: Sequence[float], gaps: Sequence[float], share: float) -> list[float]:
    """Return gaps at the end of a pilot as batches of the run's size would have moved them: share^-0.17 times as far.

    Args:
        base: gaps before training, unit nat.
        gaps: at its end.
        share: rows of its steps over those of the run's.

    Returns:
        Gaps, unit nat; those given where the batches are whole.
    """
    more = share**-BATCH_POWER - 1
    return [gap + more * (gap - b) for b, gap in zip(base, gaps, strict=True)]


def noise_of(plan: StepPlan, chosen: Design) -> float:
    """Return how much of what single places do in pilots is noise, as ``foretell`` takes it.

    It falls as one over the rows that are read, and grows with the dose: a walk of the weights, which goes on while
    what the words gain comes to an end; for other methods no rule was found (docs/forecast-runs.md#how-it-works).

    Args:
        plan: the run, at its rate.
        chosen: its pilots.

    Returns:
        Variance of the noise over that of changes within pairs, in [0.1, 9/11], with the dose D, the sum of the rates:
        under full fine-tuning 620 root(D) over the rows of all pilots; under LoRA 290 D over these (at a scale of 2);
        else 9/11.
    """
    training, dose, rows = plan.training, sum(plan.rates), chosen.rows(plan)
    if training.method == "full":
        noise = FULL_NOISE * math.sqrt(dose) / rows
    elif training.method in LORA_SCALED:
        noise = LORA_NOISE * dose * _scale(training) / rows
    else:
        return NOISE
    return min(NOISE, max(_LEAST_NOISE, noise))


def look_tokens(plan: StepPlan, budget: float, looks: int) -> float:
    """Return how many tokens one look at the watched places may read.

    Args:
        plan: the run.
        budget: share of the run.
        looks: how many looks there are.

    Returns:
        Tokens.
    """
    return _WATCHING * FORWARD_BACKWARD * budget * plan.tokens / looks


def design(plan: StepPlan, budget: float, pilots: int, rates: int = 1) -> Design:
    """Say what pilots a budget buys: as short spans as it goes with half batches, and no more than whole ones.

    Under adapters spans are no longer than a rate of 0.01 allows, on as many rows fewer: their steps go too far sooner,
    the product of two matrices being trained.

    Args:
        plan: the run.
        budget: share of the run's gradients that the pilots may take together.
        pilots: how many.
        rates: how many rates share the whole budget, for the message.

    Returns:
        The design.

    Raises:
        UserError: it does not buy 4 steps.
    """
    full = plan.step_rows
    of_all = plan.training.method in WHOLE
    rows, shortest = (_FEWEST_ROWS, 1.0) if of_all else (1, ADAPTER_SPAN)
    longest = LONGEST_SPAN if of_all else _adapter_span(plan.training)
    least = min(1.0, rows / full)
    each = max(0.0, budget) / pilots
    fewest = min(FEWEST_STEPS, len(plan.steps))
    wanted = max(least, min(SHARE, each * longest), min(1.0, each * shortest))
    affordable = int(len(plan.steps) * each / fewest * full + 1e-9)  # rows a step that leave steps enough
    whole = max(1, round(least * full), min(round(wanted * full), affordable))
    share = min(1.0, whole / full)
    steps = min(len(plan.steps), int(len(plan.steps) * each / share + 1e-9))
    if steps < fewest:
        needed = fewest * least * pilots * rates / len(plan.steps) / (1 - _WATCHING)
        much = "" if needed > 1 else f"--budget {needed:.2g} or more; "
        shared = f" at each of {rates} rates" if rates > 1 else ""
        fewer = " or ".join(["pilots"] * (pilots > 1) + ["rates"] * (rates > 1))
        raise UserError(
            "the budget is too small for a pilot",
            rule=f"{fewest} steps of {max(1, round(least * full))} rows at least",
            found=f"a run of {len(plan.steps)} steps of {full:.3g} rows, of which {max(0.0, budget):.2g} is left for "
            f"{'the pilot' if pilots == 1 else f'{pilots} pilots'}{shared}",
            fix=f"{much}{f'fewer {fewer}; ' * bool(fewer)}so short a run is as quickly run",
        )
    return Design(pilots, steps, share)


def _adapter_span(training: Training) -> float:
    """The longest span under LoRA: by the rate, and by the scale that it counts times; others were not measured."""
    if training.method not in LORA_SCALED:
        return ADAPTER_SPAN
    rate = training.learning_rate * _scale(training)
    return min(LONGEST_SPAN, max(ADAPTER_SPAN, ADAPTER_RATE / rate))


def _scale(training: Training) -> float:
    """By what a rate counts under LoRA: alpha over rank, over the 2 that was measured."""
    return training.lora_alpha / training.rank / 2


def shortened(plan: StepPlan, left: Design, budget: float) -> Design | None:
    """Say what pilots a budget buys after some that left the stable range: of half the span, if it goes.

    Args:
        plan: the run.
        left: what these were.
        budget: share of the run's gradients that remains.

    Returns:
        Pilots of as many rows a step as remain for it, one at least; None where their span is not shorter by a third.
    """
    each, full = budget / left.pilots, plan.step_rows
    steps = min(len(plan.steps), 2 * left.steps)
    share = max(1 / full, min(left.share, each * len(plan.steps) / steps))
    steps = min(steps, int(len(plan.steps) * each / share))
    return Design(left.pilots, steps, share) if steps >= _SHORTER * left.steps else None
