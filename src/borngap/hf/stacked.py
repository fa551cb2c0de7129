"""Many LoRA runs in one forward: each row of a batch has adapters and a rate of its own (spec section 8).

The trunk is frozen and shared, so R runs are one batch of R prompts, and only the low-rank products differ by row:
``y_r = W x_r + s B_r A_r x_r`` with A of shape (R, rank, d_in) and B of shape (R, d_out, rank). The result equals R
runs of ``FineTune.alone`` to float32 rounding: initial adapters are PEFT's own for each seed, the optimiser is torch's.

    tuner = FineTune(loaded, contexts, Training(method="lora", steps=50))
    lanes = [Lane(index, rate, seed) for index in range(len(contexts)) for rate in (1e-4, 1e-3) for seed in (0, 1)]
    for number, step in stacked(tuner, lanes):  # step.records[lanes[number].index], step.last
        ...
    critical = stacked(tuner, lanes, observe="margins", stop=lambda number, step: ...)  # cheap; a lane may leave early

Entries of one lane come in order of steps, those of several lanes interleaved; a lane's last entry has ``last`` set.
``tuner.entry(lane.index, steps)`` judges a lane's entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from transformers import get_scheduler

from borngap.errors import UserError
from borngap.hf.finetune import FineTune, Step
from borngap.hf.observe import MEASURED, Observe, Observer, Record
from borngap.training import Training
from borngap.watch import Watch, is_evaluation

Stop = Callable[[int, Step], bool]
MEMORY = 1 << 30
_ADAPTER = "borngap_seed"
_COPIES = 6  # of a lane's adapters: itself, its stack, gradients of both, two moments
_WIDTHS = 48  # floats that the backward keeps per token and layer, over the model's width (measured: 35 to 45)


@dataclass(frozen=True)
class Lane:
    """One run of a stack.

    Attributes:
        index: which of the tuner's targets is trained.
        rate: learning rate.
        seed: seeds LoRA's initial matrices.
    """

    index: int
    rate: float
    seed: int = 0


def stacked(
    tuner: FineTune,
    lanes: Sequence[Lane],
    *,
    observe: Observe = "all",
    stop: Stop | None = None,
    memory: int = MEMORY,
) -> Iterator[tuple[int, Step]]:
    """Train every lane from the base weights; the settings but index, rate and seed are the tuner's.

    Args:
        tuner: prepared for LoRA; its weights stay as they are.
        lanes: the runs.
        observe: what is measured at every step, as for ``FineTune.alone``: ``all``, ``light`` or ``margins``.
        stop: asked after each step but the last with the lane's number and entry; a lane for which it is true leaves.
        memory: bound on what a stack of lanes takes, unit byte; lanes beyond it wait for the next stack.

    Yields:
        Number of the lane and what was seen after its step's updates.

    Raises:
        UserError: the settings are none that a stack can honour, or a lane's rate or index is out of range.

    Cost:
        A step is one forward and one backward of the trunk for all lanes, without gradients of weights.
    """
    _check(tuner, lanes)
    layers = _layers(tuner.model)
    initial = {seed: _initial(tuner, layers, seed) for seed in {lane.seed for lane in lanes}}
    for numbers in _split(tuner, lanes, layers, memory):
        yield from _Stack(tuner, layers, {n: lanes[n] for n in numbers}, initial, observe, stop).run()


class _Stack:
    """Lanes that go through the model together."""

    def __init__(
        self,
        tuner: FineTune,
        layers: list[Any],
        lanes: dict[int, Lane],
        initial: dict[int, Tensor],
        observe: Observe,
        stop: Stop | None,
    ) -> None:
        self._model, self._training, self._layers, self._lanes = tuner.model, tuner.training, layers, lanes
        self._whole, self._stop = observe != "margins", stop
        self._targets = {n: tuner.targets[lane.index] for n, lane in lanes.items()}
        self._slots = {n: slot for slot, n in enumerate(lanes)}  # of the observer, which keeps all lanes
        settings, targets = tuner.training, list(self._targets.values())
        only = MEASURED[observe]
        self._observer = Observer(self._model, tuner.tokenizer, targets, settings.geometry, settings.top_p, only)
        self._watches = {n: Watch(settings.stop) for n in lanes}
        self._adapters = {n: initial[lane.seed].clone() for n, lane in lanes.items()}
        self._optimiser = _optimiser(self._adapters, lanes, settings)
        self._factors = _factors(settings)

    def run(self) -> Iterator[tuple[int, Step]]:
        """Yield number and entry of every lane and step."""
        for step in range(self._training.steps + 1):
            stack = torch.stack(list(self._adapters.values())).requires_grad_()
            losses, logits, hidden = self._forward(stack)
            entries = self._look(step, stack.detach(), losses.tolist(), logits, hidden)
            yield from entries.items()
            going = [slot for slot, entry in enumerate(entries.values()) if not entry.last]
            self._drop([n for n, entry in entries.items() if entry.last])
            if not going:
                return
            self._update(step, stack, losses[going], going)

    def _forward(self, stack: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Losses, detached logits and hidden states at the last position of each lane's prompt."""
        targets = list(self._targets.values())
        with _rows_adapted(self._layers, stack):
            logits, hidden = _last_positions(self._model, [t.ids for t in targets])
        gold = torch.tensor([t.gold_id for t in targets], device=logits.device)
        losses = nn.functional.cross_entropy(logits.float(), gold, reduction="none")
        return losses, logits.detach(), hidden

    def _update(self, step: int, stack: Tensor, losses: Tensor, going: list[int]) -> None:
        (gradient,) = torch.autograd.grad(losses.sum(), stack)
        for parameter, row in zip(self._adapters.values(), gradient[going], strict=True):
            parameter.grad = row
            if self._training.clip:
                nn.utils.clip_grad_norm_([parameter], self._training.clip)
        for group in self._optimiser.param_groups:
            group["lr"] = group["rate"] * self._factors[step]
        self._optimiser.step()

    def _drop(self, numbers: list[int]) -> None:
        """Let lanes leave: neither their adapters nor their moments take part any more."""
        gone = {id(self._adapters[n]) for n in numbers}
        for group in self._optimiser.param_groups:
            group["params"] = [p for p in group["params"] if id(p) not in gone]
        for n in numbers:
            self._optimiser.state.pop(self._adapters.pop(n), None)
            del self._targets[n]

    def _look(
        self, step: int, stack: Tensor, losses: list[float], logits: Tensor, hidden: Tensor | None
    ) -> dict[int, Step]:
        """Measure all lanes, and say which of them end here."""
        records = self._records(step, stack, logits, hidden)
        entries, dear = {}, []
        for row, (n, loss) in enumerate(zip(self._targets, losses, strict=True)):
            watch = self._watches[n]
            events = watch.update({0: records[n]}, evaluate=is_evaluation(step))
            last = step == self._training.steps or not math.isfinite(loss) or watch.reason is not None
            entry = Step(step, loss, {self._lanes[n].index: records[n]}, last)
            if not last and self._stop is not None:
                entry = replace(entry, last=self._stop(n, entry))
            entries[n] = entry
            if (events or entry.last or step == 0) and math.isfinite(records[n]["cross_entropy"] or 0.0):
                dear.append(row)
        if self._whole:
            self._complete(step, records, dear, stack, logits)
        return entries

    def _records(self, step: int, stack: Tensor, logits: Tensor, hidden: Tensor | None) -> dict[int, Record]:
        def measure(rows: list[int]) -> list[Record]:
            return self._observer.records(logits[rows], None if hidden is None else hidden[rows], self._at(rows))

        return self._measured(step, list(range(len(self._targets))), stack, measure)

    def _complete(self, step: int, records: dict[int, Record], rows: list[int], stack: Tensor, logits: Tensor) -> None:
        """Add the dear observables of some rows."""

        def measure(rows: list[int]) -> list[Record]:
            return self._observer.dear(logits[rows], self._at(rows))

        for n, record in self._measured(step, rows, stack, measure).items():
            records[n] |= record

    def _measured(
        self, step: int, rows: list[int], stack: Tensor, measure: Callable[[list[int]], list[Record]]
    ) -> dict[int, Record]:
        """Lane -> record of some rows of the batch, as each lane's own geometry has it."""
        numbers = list(self._targets)
        contexts = {row: self._lanes[numbers[row]].index for row in rows}
        found: dict[int, Record] = {}
        if self._observer.moving:  # an adapter on the head gives each lane a geometry of its own
            for row in rows:
                with _installed(self._layers, stack[row]):
                    found |= zip([row], measure([row]), strict=True)
        elif step and rows:
            found |= zip(rows, measure(rows), strict=True)
        elif rows:  # before the first update all lanes of a context are the same prediction
            one = {context: row for row, context in contexts.items()}
            known = dict(zip(one, measure(list(one.values())), strict=True))
            found |= {row: dict(known[context]) for row, context in contexts.items()}
        return {numbers[row]: record for row, record in found.items()}

    def _at(self, rows: list[int]) -> list[int]:
        """The observer's slots of some rows."""
        numbers = list(self._targets)
        return [self._slots[numbers[row]] for row in rows]


def _check(tuner: FineTune, lanes: Sequence[Lane]) -> None:
    training = tuner.training
    fix = "use the engine sequential"
    if training.method != "lora":
        raise UserError("only LoRA runs can be stacked", rule="method lora", found=training.method, fix=fix)
    if training.dropout or training.forward != "last" or training.joint:
        found = "dropout" if training.dropout else "joint" if training.joint else f"forward {training.forward}"
        raise UserError("a stack can't do that", rule="no dropout, forward last, each alone", found=found, fix=fix)
    bad = [lane for lane in lanes if not (0 < lane.rate < math.inf and 0 <= lane.index < len(tuner.targets))]
    if bad:
        rule = f"a positive, finite rate and an index below {len(tuner.targets)}"
        raise UserError("a lane is out of range", rule=rule, found=bad[0])


def _layers(model: Any) -> list[Any]:
    """The adapted modules, in PEFT's order."""
    layers: list[Any] = [module for module in model.modules() if isinstance(module, LoraLayer)]
    strange = sorted({type(m).__name__ for m in layers if not isinstance(m, LoraLinear) or m.lora_variant})
    if strange:
        raise UserError(
            "only linear layers can be stacked", found=f"LoRA on {strange}", fix="use the engine sequential"
        )
    return layers


def _flat(layers: Sequence[Any], adapter: str) -> Tensor:
    """A and B of every layer in one vector."""
    pairs = ((layer.lora_A[adapter].weight, layer.lora_B[adapter].weight) for layer in layers)
    return torch.cat([matrix.detach().flatten() for pair in pairs for matrix in pair])


def _initial(tuner: FineTune, layers: list[Any], seed: int) -> Tensor:
    """Adapters as PEFT initialises them for a seed, in one vector."""
    model = tuner.model
    if seed == tuner.training.seed:
        tuner.restore()
        return _flat(layers, "default")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.add_adapter(_ADAPTER, replace(model.peft_config["default"]))
    try:
        return _flat(layers, _ADAPTER)
    finally:
        model.delete_adapter(_ADAPTER)


def _split(tuner: FineTune, lanes: Sequence[Lane], layers: list[Any], memory: int) -> Iterator[list[int]]:
    """Stacks of lanes with prompts of similar length, each within a bounded memory."""
    config = tuner.model.config.get_text_config()
    adapters = _COPIES * sum(shape.numel() for shape in _shapes(layers))
    token = _WIDTHS * config.num_hidden_layers * config.hidden_size
    stack: list[int] = []
    for number in sorted(range(len(lanes)), key=lambda n: len(tuner.targets[lanes[n].index].ids)):
        # sorted, so this lane's prompt is the stack's longest and all are padded to it
        lane_bytes = 4 * (adapters + token * len(tuner.targets[lanes[number].index].ids) + 4 * config.vocab_size)
        if stack and (len(stack) + 1) * lane_bytes > memory:
            yield stack
            stack = []
        stack.append(number)
    if stack:
        yield stack


def _shapes(layers: Sequence[Any]) -> list[torch.Size]:
    """Shapes of A and B of every layer."""
    return [m["default"].weight.shape for layer in layers for m in (layer.lora_A, layer.lora_B)]


def _pieces(layers: Sequence[Any], stack: Tensor) -> Iterator[tuple[Any, Tensor, Tensor]]:
    """Each layer with its A, shape (R, rank, d_in), and B, shape (R, d_out, rank), as views of a stack of vectors."""
    shapes = _shapes(layers)
    pieces = stack.split([shape.numel() for shape in shapes], -1)
    views = iter([piece.unflatten(-1, shape) for piece, shape in zip(pieces, shapes, strict=True)])
    for layer in layers:
        yield layer, next(views), next(views)


@contextmanager
def _rows_adapted(layers: Sequence[Any], stack: Tensor) -> Iterator[None]:
    """Let each row of a batch go through adapters of its own; the model is as before on leaving."""
    try:
        for layer, down, up in _pieces(layers, stack):
            layer.forward = partial(_adapted_forward, layer, down, up)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _adapted_forward(layer: Any, down: Tensor, up: Tensor, x: Tensor) -> Tensor:
    """``W x_r + s B_r A_r x_r``, x of shape (R, positions, d_in)."""
    base = layer.base_layer(x)
    inner = torch.bmm(x.to(down.dtype), down.mT)
    return torch.baddbmm(base.to(down.dtype), inner, up.mT, alpha=layer.scaling["default"]).to(base.dtype)


@contextmanager
def _installed(layers: Sequence[Any], adapters: Tensor) -> Iterator[None]:
    """Put one lane's adapters into PEFT's modules, for whoever reads the effective head."""
    kept = _flat(layers, "default")
    try:
        _install(layers, adapters)
        yield
    finally:
        _install(layers, kept)


def _install(layers: Sequence[Any], adapters: Tensor) -> None:
    with torch.no_grad():
        for layer, down, up in _pieces(layers, adapters):
            layer.lora_A["default"].weight.copy_(down)
            layer.lora_B["default"].weight.copy_(up)


def _last_positions(model: Any, prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor | None]:
    """Logits, shape (R, V), and detached hidden states, (R, d), at the last positions of right-padded prompts."""
    # only these positions enter the head: its product over all of them would cost more than a small model's trunk
    device = model.get_input_embeddings().weight.device
    last = torch.tensor([len(p) - 1 for p in prompts], device=device)
    rows = torch.arange(len(prompts), device=device)
    ids = nn.utils.rnn.pad_sequence([torch.tensor(p) for p in prompts], batch_first=True).to(device)
    seen: list[Tensor] = []

    def keep_last(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if args[0].ndim != 3 or args[0].shape[:2] != ids.shape:
            return None
        kept = args[0][rows, last].unsqueeze(1)
        seen.append(kept.detach().squeeze(1))
        return (kept, *args[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(keep_last)
    try:
        # no position sees a later one, so a mask of padding changes nothing; one of ones takes the faster kernels
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    finally:
        hook.remove()
    if logits.shape[1] == 1 and seen:
        return logits[:, 0], seen[0]
    return logits[rows, last], None


def _optimiser(adapters: dict[int, Tensor], lanes: dict[int, Lane], training: Training) -> torch.optim.AdamW:
    """AdamW as torch has it, one vector a lane, grouped by rate."""
    groups = [
        {"params": [adapters[n] for n, lane in lanes.items() if lane.rate == rate], "lr": rate, "rate": rate}
        for rate in dict.fromkeys(lane.rate for lane in lanes.values())
    ]
    return torch.optim.AdamW(
        groups, betas=(training.beta1, training.beta2), eps=training.eps, weight_decay=training.weight_decay, fused=True
    )


def _factors(training: Training) -> list[float]:
    """The rate at each step over the lane's own, by the hosts' schedules."""
    single = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    name = "constant_with_warmup" if training.schedule == "constant" else training.schedule
    scheduler = get_scheduler(name, single, training.warmup, training.steps)
    factors = []
    for _ in range(training.steps):
        factors.append(scheduler.get_last_lr()[0])
        single.step()
        scheduler.step()
    return factors
