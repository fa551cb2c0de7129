"""What is trained: the arms of a reproduction and the pure plans of their runs.

An arm is a way of training (full, LoRA, parts frozen). Experiments share arms, so runs that several of them need are
done once. Rates are the paper's, and those at which the mean reduced field ``H = eta * mean(Gmax) / theta*`` has given
values, theta* the model's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from borngap.choices import Criterion, Keep
from borngap.context import Context
from borngap.methods import Method
from borngap.sweep.plan import SweepPlan, plan_sweep
from borngap.training import Dtype, Training

STANDARD = {"full": 2e-5, "lora": 1e-4}  # the paper's rates
AT_THRESHOLD, WELL_ABOVE = 1.7, 10.0  # the paper's mean H of class A under LoRA, and of all models under full
MAIN = {"full": f"H={WELL_ABOVE:g}", "lora": f"H={AT_THRESHOLD:g}"}
FORECAST = f"H={AT_THRESHOLD:g}"  # where ends are forecast
_SWEPT = (0.3, 1.0, AT_THRESHOLD, 3.0, WELL_ABOVE, 30.0)
_ENDS = (AT_THRESHOLD, WELL_ABOVE)
# the criterion is the paper's; flips and outcomes by the others are kept in every run as well
_COMMON: dict[str, Any] = {"criterion": "born"}


@dataclass(frozen=True)
class Arm:
    """A way of training.

    Attributes:
        id: its name, also that of its folder.
        title: in words.
        training: settings that differ from the usual ones.
        scale: method whose theta* its fields refer to.
        fields: mean reduced fields H that it is run at.
        rates: rates that it is run at besides.
        seeds: seeds of LoRA's initial matrices.
        group: arms of one group are one way of training, with other seeds.
        untied: whether it needs a head of its own.
    """

    id: str
    title: str
    training: Mapping[str, Any]
    scale: Method
    fields: tuple[float, ...]
    group: str
    rates: tuple[float, ...] = ()
    seeds: tuple[int, ...] = (0,)
    untied: bool = False


_LORA = {"method": "lora"}
_ALL = (
    Arm("full", "full fine-tuning", {"method": "full"}, "full", _SWEPT, "full", (STANDARD["full"],)),
    # the paper's step-level LoRA runs are at full's rate
    Arm("lora", "LoRA", _LORA, "lora", _SWEPT, "lora", (STANDARD["full"], STANDARD["lora"])),
    Arm("lora-seeds", "LoRA, further seeds", _LORA, "lora", _ENDS, "lora", seeds=(1, 2)),
    Arm("lora-readout", "LoRA, an adapter on the readout too", {"method": "lora", "lora_targets": ("+readout",)},
        "lora", _ENDS, "lora-readout"),
    Arm("full-embeddings", "full, embeddings frozen", {"method": "full", "freeze": ("embeddings",)}, "full", _ENDS,
        "full-embeddings"),
    Arm("full-readout", "full, readout frozen", {"method": "full", "freeze": ("readout",)}, "full", _ENDS,
        "full-readout", untied=True),
    Arm("readout-only", "readout only", {"method": "readout-only"}, "readout-only", _ENDS, "readout-only"),
)  # fmt: skip
ARMS: dict[str, Arm] = {arm.id: arm for arm in _ALL}
GROUPS = tuple(dict.fromkeys(arm.group for arm in _ALL))


@dataclass(frozen=True)
class Scope:
    """How much of the matrix is run.

    Attributes:
        arms: which ways of training.
        steps: optimiser steps N a run.
        fields: mean reduced fields that are run, of those that an arm has; all if empty.
        further_seeds: whether seeds other than the first are run.
        bisect: whether critical rates are also searched for by real runs.
        pairs: pairs of tokens that the bulk is sampled from.
        dtype: of the weights, as ``Training`` takes it.
        brackets: whether forecast rates by rank, full and LoRA, are held against two real runs each.
        ends: whether the ends of runs near the threshold are forecast.
        criteria: by which critical rates are searched for without training.
        keep: which contexts each model keeps: all that its tokenizer can measure, or those of them in which the rival
            leads.
        most: how many contexts a model keeps at most, pairs of words in turn; all if None.
    """

    arms: tuple[str, ...] = tuple(ARMS)
    steps: int = 50
    fields: tuple[float, ...] = ()
    further_seeds: bool = True
    bisect: bool = True
    pairs: int = 1_000_000
    dtype: Dtype | None = None
    brackets: bool = False
    ends: bool = True
    criteria: tuple[Criterion, ...] = ("born", "rank")
    keep: Keep = "measurable"
    most: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the scope as JSON-ready values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Scope:
        """Return the scope that ``to_json`` wrote."""
        settings: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in value.items()}
        return cls(**settings)


def rates_of(arm: Arm, scope: Scope, theta: float | None, mean_overlap: float) -> dict[float, str]:
    """Return the rates of an arm for one model, with their names.

    Args:
        arm: the way of training.
        scope: how much of it is run.
        theta: theta* of the arm's scale; None if it is not known.
        mean_overlap: mean Gmax over the model's contexts.

    Returns:
        Rate -> name (``H=10``, or the rate itself where it is the paper's), increasing. Fields have no rate without a
        positive theta* and mean overlap.

    Example:
        >>> rates_of(ARMS["lora-seeds"], Scope(), 1e-3, 0.5)
        {0.0034: 'H=1.7', 0.02: 'H=10'}
    """
    named = {rate: f"{rate:g}" for rate in arm.rates}
    if theta is not None and theta > 0 and mean_overlap > 0:
        wanted = [f for f in arm.fields if not scope.fields or f in scope.fields]
        # rounded, so that a plan that is made again from stored numbers is the same
        own = {float(f"{f * theta / mean_overlap:.6g}"): f"H={f:g}" for f in wanted}
        named = named | own
    return dict(sorted(named.items()))


def plan_of(
    arm: Arm,
    scope: Scope,
    model: str,
    contexts: Sequence[Context],
    rates: Sequence[float],
    targets: tuple[str, ...] = ("attention",),
) -> SweepPlan | None:
    """Return the runs of an arm for one model.

    Args:
        arm: the way of training.
        scope: how much of it is run.
        model: bundled name, local folder, or hub id.
        contexts: what is trained on, each alone.
        rates: as ``rates_of`` returns them.
        targets: modules that carry LoRA's adapters.

    Returns:
        The plan; None where there is nothing to run.
    """
    seeds = arm.seeds if scope.further_seeds or arm.seeds == (0,) else ()
    if not rates or not seeds or not contexts:
        return None
    settings = {**_COMMON, "steps": scope.steps, "dtype": scope.dtype, **arm.training}
    if arm.training["method"] == "lora":
        more = tuple(name.removeprefix("+") for name in arm.training.get("lora_targets", ()))
        settings["lora_targets"] = targets + more
    return plan_sweep(model, contexts, list(rates), training=Training(**settings), seeds=seeds)


def theta_of(thetas: Sequence[float | None]) -> float | None:
    """Return theta*, the mean of ``eta_c * Gmax`` over contexts that have a critical rate (docs/threshold.md).

    Args:
        thetas: one a context; None where there is no critical rate.

    Returns:
        The mean; None without any.
    """
    known = [theta for theta in thetas if theta is not None and math.isfinite(theta)]
    return sum(known) / len(known) if known else None
