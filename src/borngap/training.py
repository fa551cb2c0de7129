"""Settings of one fine-tuning run: everything that decides what it computes (docs/track.md#the-command)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NoReturn, get_args

from borngap.choices import CRITERIA, KINDS, Criterion, Kind, Stop
from borngap.errors import UserError
from borngap.losses.form import NO_TERM, LossForm, Penalty, loss_words, read_form, read_penalty
from borngap.methods import METHODS, NAMES, WHOLE, Method
from borngap.optimisers import FACTS_OF, OPTIMISERS, TUNED, Optimiser
from borngap.rates import RULE, is_rate
from borngap.schedule import SCHEDULES, Schedule, factors

Part = Literal["readout", "embeddings"]
Forward = Literal["last", "labels"]
Dtype = Literal["float32", "float64", "bfloat16", "float16", "auto"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
# rates that recipes for LoRA recommend: what needs more than the last is no longer "LoRA does"
USUAL_LORA_RATES = (1e-4, 1e-3)


@dataclass(frozen=True)
class Training:
    """How contexts are trained and watched.

    Attributes:
        method: what is trained: ``full``, all parameters; ``readout-only``, the output matrix alone; ``lora`` and its
            kin; ``ia3``, ``oft``, ``ln``, ``bitfit``, ``prompt``, ``prefix``, ``adapter``; or ``peft``, what a PEFT
            configuration says (docs/methods.md).
        rate: learning rate; unless given, the method's usual one: full 2e-5, LoRA and most others 1e-4.
        steps: optimiser steps of a run, at least 0.
        freeze: what ``full`` leaves alone: ``readout`` (untied heads only), ``embeddings`` (the input matrix).
        seed: seeds what a method draws at its start, as LoRA's matrices, and, where it is on, dropout.
        lora_rank: rank of the adapters; unless given 8, VeRA's 256; of bottleneck adapters the width, 64, of OFT the
            size of its blocks, 32.
        lora_alpha: scale of the adapters times their rank; rank-stabilised LoRA's times its root.
        lora_dropout: dropout within the adapters, in [0, 1); needs dropout on.
        lora_targets: layers that LoRA, its kin, IA3 and OFT adapt: names or ends of paths; ``attention`` stands for
            attention's query and value projections or the layer that holds both (under IA3 for PEFT's own choice),
            ``mlp`` for the feed-forward layers, ``all-linear`` for all linear layers but the head, ``readout`` for the
            output matrix.
        rate_ratio: LoRA+: rate of the matrices B over that of the matrices A.
        virtual_tokens: length of the prompt or prefix that is tuned.
        peft_config: of ``peft``: a PEFT configuration, ``adapter_config.json`` or the folder that holds it.
        optimizer: what updates the weights: AdamW unless given; critical rates under others are found by real runs,
            and usual rates are AdamW's (docs/methods.md#optimisers).
        beta1: decay of the mean gradient; SGD's momentum.
        beta2: decay of the mean squared gradient; Lion's of its mean gradient.
        eps: what is added to the root of the mean squared gradient.
        weight_decay: decoupled from the gradient as AdamW has it; SGD adds it to the gradient.
        schedule: ``constant``, or a fall of the rate to 0 over the run: ``linear``, ``cosine``.
        warmup: steps of linear warm-up.
        clip: largest global gradient norm; 0 for no clipping.
        dropout: leave the model's own dropout on.
        dtype: dtype of the weights; ``auto`` keeps the checkpoint's. By default float32, unless that takes over half
            of the free memory.
        joint: train all contexts together in batches, instead of each alone from the base weights.
        batch_size: contexts a batch, if joint; rows a batch, of a run on a data set.
        shuffle: seed of a new order each epoch, if joint; unless given, the order stays.
        rival_loss: what is added to the loss, which looks at gold and rival: ``margin:WEIGHT,MARGIN``,
            ``logistic:WEIGHT``, ``unlikelihood:WEIGHT`` or ``weight:WEIGHT``; or ``none``.
        penalty: what is added to the loss of each update, of the output matrix itself: ``overlap:WEIGHT``, the squared
            overlaps of gold and rival; ``decorrelation:WEIGHT``, the mean one of all rows; or ``none``.
        forward: ``last`` computes the logits of the last position only; ``labels`` runs the model's own loss over all
            positions, as a host's training step does.
        geometry: rows that are compared: of the output embedding (``readout``), of the input embedding, or of the
            output embedding less their mean (``centered``).
        top_p: nucleus mass of the pool, in (0, 1]; 1 for the whole vocabulary.
        criterion: what counts as resolved: gold ahead of its rival (``rank``), of every token (``top1``), or by the
            Born gap (``born``).
        stop: what ends a run early: ``saturation`` of the Born gap; ``structural`` failure; ``resolved``, once gold is
            ahead and stays so; or ``none``.

    Raises:
        UserError: a setting is out of range or contradicts another.
    """

    method: Method = "full"
    rate: float | None = None
    steps: int = 50
    freeze: tuple[Part, ...] = ()
    seed: int = 0
    lora_rank: int | None = None
    lora_alpha: float = 16.0
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] = ("attention",)
    rate_ratio: float = 16.0
    virtual_tokens: int = 20
    peft_config: str | None = None
    optimizer: Optimiser = "adamw"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    warmup: int = 0
    clip: float = 0.0
    dropout: bool = False
    dtype: Dtype | None = None
    joint: bool = False
    batch_size: int = 8
    shuffle: int | None = None
    rival_loss: str = NO_TERM
    penalty: str = NO_TERM
    forward: Forward = "last"
    geometry: Kind = "readout"
    top_p: float = 0.9
    criterion: Criterion = "rank"
    stop: Stop = "none"

    def __post_init__(self) -> None:
        """Fill in the standard rate and check the settings.

        Raises:
            UserError: a setting is out of range or contradicts another.
        """
        for name, allowed in (_CHOICES | ({} if self.dtype is None else {"dtype": DTYPES})).items():
            if getattr(self, name) not in allowed:
                raise UserError(f"unknown {name}", rule=f"one of {', '.join(allowed)}", found=getattr(self, name))
        if self.rate is None:
            object.__setattr__(self, "rate", METHODS[self.method].rate)
        if self.lora_rank is None:
            object.__setattr__(self, "lora_rank", METHODS[self.method].rank)
        for name, (rule, holds) in _RANGES.items():
            if not holds(getattr(self, name)):
                raise UserError(f"{name} is out of range", rule=rule, found=getattr(self, name))
        read_form(self.rival_loss)
        read_penalty(self.penalty)
        self._check_parts()
        self._check_optimizer()

    @property
    def learning_rate(self) -> float:
        """The learning rate, never None."""
        return METHODS[self.method].rate if self.rate is None else self.rate

    @property
    def rank(self) -> int:
        """Rank of the adapters, never None."""
        return METHODS[self.method].rank if self.lora_rank is None else self.lora_rank

    @property
    def averages(self) -> bool:
        """Whether a mean of the weights is evaluated, not those that are trained."""
        return self.optimizer == "schedule_free_adamw"

    @property
    def added(self) -> LossForm | None:
        """What is added to the cross-entropy, None where nothing is."""
        return read_form(self.rival_loss)

    @property
    def penalised(self) -> Penalty | None:
        """What is added to the loss of each update, None where nothing is."""
        penalty = read_penalty(self.penalty)
        return penalty if penalty is not None and penalty.weight else None

    @property
    def terms(self) -> tuple[str, ...]:
        """What is added to the cross-entropy, as it is written."""
        return tuple(str(term) for term in (self.added, self.penalised) if term is not None and term.weight)

    @property
    def loss_words(self) -> str:
        """The loss where something is added to the cross-entropy, as in ``cross-entropy + overlap:1``; else nothing."""
        return loss_words(self.added, self.penalised)

    def to_json(self) -> dict[str, Any]:
        """Return all settings, JSON-ready; those that came later are left out at their defaults."""
        return {name: v for name, v in asdict(self).items() if _LATER.get(name, ...) != v}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Training:
        """Return the settings that ``to_json`` wrote, whose lists are tuples again."""
        settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()}
        return cls(**settings)

    def under(self, method: Method, rate: float | None = None, rank: int | None = None) -> Training:
        """Return the settings for another method: rate and rank its usual ones unless given, nothing of others kept.

        Args:
            method: which.
            rate: learning rate.
            rank: of its adapters.
        """
        plain = {name: getattr(Training, name) for name, methods in _OWN.items() if method not in methods}
        freeze = self.freeze if method == "full" else ()
        return replace(self, method=method, rate=rate, lora_rank=rank, freeze=freeze, **plain)

    @property
    def scope(self) -> str:
        """What a rate or an outcome forecast from these settings holds of; it stands before every such number."""
        steps = f"{self.steps} step" if self.steps == 1 else f"{self.steps} steps"
        if self.joint:
            return f"these contexts trained together, {steps} on them alone; a run on a data set moves them far less"
        return f"each context trained alone, {steps} on its one prompt; a run on a data set moves it far less"

    @property
    def factors(self) -> tuple[float, ...]:
        """The schedule's factor on the rate of every update."""
        return factors(self.schedule, self.warmup, self.steps)

    def _check_parts(self) -> None:
        unknown = sorted(set(self.freeze) - set(get_args(Part)))
        if unknown:
            raise UserError("unknown part to freeze", rule=f"one of {', '.join(get_args(Part))}", found=unknown)
        if self.freeze and self.method != "full":
            fix = "leave the freezing out, or use --method full"
            raise UserError(f"{self.method} trains no parts that could be frozen", found=self.freeze, fix=fix)
        if (self.method == "peft") != (self.peft_config is not None):
            raise UserError("method and PEFT configuration do not go together", rule="--method peft --peft-config FILE")
        if self.penalised and self.method not in _OWN["penalty"]:
            refuse_penalty(f"{self.penalty} under --method {self.method}")
        if self.penalised and "readout" in self.freeze:
            refuse_penalty(f"{self.penalty} under --freeze readout")
        for name, methods in _OWN.items():
            if self.method not in methods and getattr(self, name) != getattr(Training, name):
                what, fix = f"{self.method} has no {name.replace('_', ' ')}", f"leave --{name.replace('_', '-')} out"
                raise UserError(what, rule=f"--method {' or '.join(methods)}", found=getattr(self, name), fix=fix)
        if self.lora_dropout and not self.dropout:
            raise UserError("dropout is off", rule="LoRA's dropout goes with dropout on", fix="add --dropout")
        if self.shuffle is not None and not self.joint:
            raise UserError("an order needs several contexts", rule="a shuffle seed goes with joint training")

    def _check_optimizer(self) -> None:
        facts = FACTS_OF[self.optimizer]
        for name in TUNED:
            if name not in facts.settings and getattr(self, name) != getattr(Training, name):
                fix = f"leave --{name} out, or use another --optimizer"
                raise UserError(f"{facts.words} has no {name}", found=getattr(self, name), fix=fix)
        if self.averages and self.schedule != "constant":
            rule = "--schedule constant; --warmup is possible"
            raise UserError("schedule-free AdamW has no schedule", rule=rule, found=self.schedule)


def refuse_penalty(found: str) -> NoReturn:
    """Say that a penalty would change nothing.

    Args:
        found: what leaves the output matrix as it is.

    Raises:
        UserError: always.
    """
    rule = "it is of the output matrix itself, so that has to be trained; an adapter on the head leaves it as it is"
    fix = "--method full or readout-only, or no penalty"
    raise UserError("the penalty would change nothing", rule=rule, found=found, fix=fix)


# what came after the first stored folders, by its default
_LATER: dict[str, Any] = {"rival_loss": NO_TERM, "penalty": NO_TERM, "optimizer": "adamw"}
# settings of single methods, which others would ignore
_OWN: dict[str, tuple[Method, ...]] = {
    "virtual_tokens": ("prompt", "prefix"), "rate_ratio": ("lora+",), "penalty": (*WHOLE, "peft"),
}  # fmt: skip
_CHOICES: dict[str, tuple[str, ...]] = {
    "method": NAMES,
    "schedule": SCHEDULES,
    "optimizer": OPTIMISERS,
    "stop": get_args(Stop),
    "forward": get_args(Forward),
    "geometry": KINDS,
    "criterion": CRITERIA,
}
_RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "rate": (RULE, is_rate),
    "steps": ("at least 0", lambda x: x >= 0),
    "lora_rank": ("at least 1", lambda x: x >= 1),
    "lora_alpha": ("a positive number", lambda x: x > 0),
    "lora_dropout": ("in [0, 1)", lambda x: 0 <= x < 1),
    "lora_targets": ("at least one", bool),
    "rate_ratio": ("a positive number", lambda x: x > 0),
    "virtual_tokens": ("at least 1", lambda x: x >= 1),
    "beta1": ("in [0, 1)", lambda x: 0 <= x < 1),
    "beta2": ("in [0, 1)", lambda x: 0 <= x < 1),
    "eps": ("at least 0", lambda x: x >= 0),
    "weight_decay": ("at least 0", lambda x: x >= 0),
    "warmup": ("at least 0", lambda x: x >= 0),
    "clip": ("at least 0", lambda x: x >= 0),
    "batch_size": ("at least 1", lambda x: x >= 1),
    "top_p": ("in (0, 1]", lambda x: 0 < x <= 1),
}
