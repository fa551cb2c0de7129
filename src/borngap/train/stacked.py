"""Many runs in one forward: each row of a batch has weights and a rate of its own (docs/sweep.md).

LoRA's trunk is frozen and shared, so R runs are one batch of R prompts, and only the low-rank products differ by row:
``y_r = W x_r + s B_r A_r x_r`` with A of shape (R, rank, d_in) and B of shape (R, d_out, rank). Under the other methods
the rows have copies of all that is trained. The result equals R runs of ``FineTune.alone`` to float32 rounding: initial
adapters are PEFT's own for each seed, the optimiser is torch's.

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
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from borngap.errors import UserError
from borngap.judge.watch import Watch, is_evaluation
from borngap.losses.formulae import trained_loss
from borngap.methods import METHODS, WHOLE
from borngap.rates import is_rate
from borngap.train.bottleneck import redrawn
from borngap.train.finetune import FineTune, Step, words_of_targets
from borngap.train.observe import MEASURED, Observe, Observer, Record
from borngap.train.optimiser import RowUpdates
from borngap.train.rowwise import Rowwise
from borngap.training import Training

LaneEnds = Callable[[int, Step], bool]
_MEMORY = 1 << 30
_OF_A_GPU = 0.5  # of its memory; the weights, other processes and what the kernels need have the rest
_ADAPTER = "borngap_seed"
_COPIES = 6  # of what a lane trains: itself, its gradient, two moments, and two while gradients are summed
_FLOATS_A_WIDTH = 48  # floats that the backward keeps per token and layer, over the model's width (measured: 35 to 45)


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
    stop: LaneEnds | None = None,
    memory: int | None = None,
) -> Iterator[tuple[int, Step]]:
    """Train every lane from the base weights; the settings but index, rate and seed are the tuner's.

    Args:
        tuner: its weights stay as they are.
        lanes: the runs.
        observe: what is measured at every step, as for ``FineTune.alone``: ``all``, ``light`` or ``margins``.
        stop: asked after each step but the last with the lane's number and entry; a lane for which it is true leaves.
        memory: bound on what a stack of lanes takes, unit byte; lanes beyond it wait for the next stack. By default
            1 GiB, or half of the memory of the GPU that the model is on.

    Yields:
        Number of the lane and what was seen after its step's updates.

    Raises:
        UserError: the settings or the model are none that a stack can honour, or a lane's rate or index is out of
            range.

    Cost:
        A step is one forward and one backward of all lanes. Under LoRA the trunk is read once for all, without
        gradients of its weights. Else each lane reads and updates weights of its own: what is saved is the launching
        of kernels, which is most of the time of a small model on a GPU, and nothing on a CPU.
    """
    _check(tuner, lanes)
    tuner.restore()
    rowwise = Rowwise(tuner.model)
    initial = {seed: _initial(tuner, rowwise, seed) for seed in {lane.seed for lane in lanes}}
    for numbers in _split(tuner, lanes, _memory(tuner) if memory is None else memory):
        own = {n: lanes[n] for n in sorted(numbers, key=lambda n: lanes[n].rate)}
        yield from _Stack(tuner, rowwise, own, initial, observe, stop).run()


def pays(tuner: FineTune) -> bool:
    """Return whether runs are faster in a stack than one after the other.

    LoRA's are, since rows share the trunk. Others are on a GPU, if two fit and the model can be mapped over rows
    (reckoned from what a step launches; no GPU was at hand to measure it). On a CPU they are not: measured.

    Args:
        tuner: the model and the settings.
    """
    if refused(tuner.training):
        return False
    rowwise = Rowwise(tuner.model)
    if rowwise.shares:
        return True
    if tuner.training.method in WHOLE and tuner.model.device.type == "cpu":
        return False
    shortest = min(range(len(tuner.targets)), key=lambda i: len(tuner.targets[i].ids))
    if 2 * _lane_bytes(tuner, len(tuner.targets[shortest].ids)) > _memory(tuner):
        return False
    rows = {name: p.detach().unsqueeze(0) for name, p in rowwise.parameters.items()}
    try:
        with torch.no_grad():
            rowwise.forward(rows, [tuner.targets[shortest].ids])
    except UserError:
        return False
    return True


class _Stack:
    """Lanes that go through the model together, in the order of their rates."""

    def __init__(
        self,
        tuner: FineTune,
        rowwise: Rowwise,
        lanes: dict[int, Lane],
        initial: dict[int, dict[str, Tensor]],
        observe: Observe,
        stop: LaneEnds | None,
    ) -> None:
        self._training, self._rowwise, self._lanes = tuner.training, rowwise, lanes
        self._whole, self._stop = observe != "margins", stop
        self._targets = {n: tuner.targets[lane.index] for n, lane in lanes.items()}
        self._slots = {n: slot for slot, n in enumerate(lanes)}  # of the observer, which keeps all lanes
        settings, targets = tuner.training, list(self._targets.values())
        only = MEASURED[observe]
        self._observer = Observer(tuner.model, tuner.tokenizer, targets, settings.geometry, settings.top_p, only)
        self._watches = {n: Watch(settings.stop, criterion=settings.criterion) for n in lanes}
        rows = {name: torch.stack([initial[lane.seed][name] for lane in lanes.values()]) for name in rowwise.parameters}
        self._updates = RowUpdates(rows, [lane.rate for lane in lanes.values()], settings, tuner.factors)

    def run(self) -> Iterator[tuple[int, Step]]:
        """Yield number and entry of every lane and step."""
        for step in range(self._training.steps + 1):
            leaves = {name: values.detach().requires_grad_() for name, values in self._updates.rows.items()}
            losses, logits, hidden = self._forward(leaves)
            entries = self._look(step, losses.tolist(), logits, hidden)
            yield from entries.items()
            going = [row for row, entry in enumerate(entries.values()) if not entry.last]
            if not going:
                return
            gradients = torch.autograd.grad(losses[going].sum(), list(leaves.values()), allow_unused=True)
            if len(going) < len(entries):
                gradients = tuple(None if g is None else g[going] for g in gradients)
                self._keep(going)
            self._updates.take(gradients)

    def _forward(self, leaves: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Losses, detached logits and hidden states at the last position of each lane's prompt."""
        targets = list(self._targets.values())
        logits, *hidden = self._rowwise.forward(leaves, [t.ids for t in targets])
        words = words_of_targets(targets, logits.device)
        losses = trained_loss(self._training.added, logits, *words, reduction="none")
        return losses, logits.detach(), hidden[0].detach() if hidden else None

    def _keep(self, going: list[int]) -> None:
        """Let the other lanes leave."""
        numbers = list(self._targets)
        self._targets = {numbers[row]: self._targets[numbers[row]] for row in going}
        self._updates.keep(going)

    def _look(self, step: int, losses: list[float], logits: Tensor, hidden: Tensor | None) -> dict[int, Step]:
        """Measure all lanes, and say which of them end here."""
        records = self._records(step, logits, hidden)
        entries, expensive = {}, []
        for row, (n, loss) in enumerate(zip(self._targets, losses, strict=True)):
            watch = self._watches[n]
            events = watch.update({0: records[n]}, evaluate=is_evaluation(step))
            last = step == self._training.steps or not math.isfinite(loss) or watch.reason is not None
            entry = Step(step, loss, {self._lanes[n].index: records[n]}, last)
            if not last and self._stop is not None:
                entry = replace(entry, last=self._stop(n, entry))
            entries[n] = entry
            if (events or entry.last or step == 0) and math.isfinite(records[n]["cross_entropy"] or 0.0):
                expensive.append(row)
        if self._whole:
            self._complete(step, records, expensive, logits)
        return entries

    def _records(self, step: int, logits: Tensor, hidden: Tensor | None) -> dict[int, Record]:
        def measure(rows: list[int]) -> list[Record]:
            return self._observer.records(logits[rows], None if hidden is None else hidden[rows], self._at(rows))

        return self._measured(step, list(range(len(self._targets))), measure)

    def _complete(self, step: int, records: dict[int, Record], rows: list[int], logits: Tensor) -> None:
        """Add the expensive observables of some rows."""

        def measure(rows: list[int]) -> list[Record]:
            return self._observer.expensive(logits[rows], self._at(rows))

        for n, record in self._measured(step, rows, measure).items():
            records[n] |= record

    def _measured(self, step: int, rows: list[int], measure: Callable[[list[int]], list[Record]]) -> dict[int, Record]:
        """Lane -> record of some rows of the batch, as each lane's own geometry has it."""
        numbers = list(self._targets)
        contexts = {row: self._lanes[numbers[row]].index for row in rows}
        found: dict[int, Record] = {}
        if step and self._observer.moving:  # where the head is trained each lane has a geometry of its own
            for row in rows:
                with self._rowwise.installed(self._updates.rows, row):
                    found |= zip([row], measure([row]), strict=True)
        elif step and rows:
            found |= zip(rows, measure(rows), strict=True)
        elif rows:  # before the first update all lanes of a context are the same prediction, but for drawn prompts
            seeds = {row: self._lanes[numbers[row]].seed if self._rowwise.prompted else 0 for row in rows}
            starts = {row: (context, seeds[row]) for row, context in contexts.items()}
            one = {start: row for row, start in starts.items()}
            known = dict(zip(one, measure(list(one.values())), strict=True))
            found |= {row: dict(known[start]) for row, start in starts.items()}
        return {numbers[row]: record for row, record in found.items()}

    def _at(self, rows: list[int]) -> list[int]:
        """The observer's slots of some rows."""
        numbers = list(self._targets)
        return [self._slots[numbers[row]] for row in rows]


def refused(training: Training) -> str | None:
    """Return what a stack can't do of the settings, or None."""
    if training.dropout:
        return "dropout"
    if training.penalised:
        return f"the penalty {training.penalty}"
    if training.optimizer != "adamw":  # some look at whole matrices, others are not ours to map over rows
        return f"the optimiser {training.optimizer}"
    return "joint" if training.joint else f"forward {training.forward}" if training.forward != "last" else None


def _check(tuner: FineTune, lanes: Sequence[Lane]) -> None:
    if found := refused(tuner.training):
        rule, fix = "AdamW, no dropout, no penalty, forward last, each alone", "use the engine sequential"
        raise UserError("a stack can't do that", rule=rule, found=found, fix=fix)
    bad = [lane for lane in lanes if not (is_rate(lane.rate) and 0 <= lane.index < len(tuner.targets))]
    if bad:
        rule = f"a positive, finite rate and an index below {len(tuner.targets)}"
        raise UserError("a lane is out of range", rule=rule, found=bad[0])


def _initial(tuner: FineTune, rowwise: Rowwise, seed: int) -> dict[str, Tensor]:
    """Weights at the start of a run: the base model's, adapters as PEFT initialises them for a seed."""
    model, names = tuner.model, list(rowwise.parameters)
    if not METHODS[tuner.training.method].drawn or seed == tuner.training.seed:
        return {name: parameter.detach().clone() for name, parameter in rowwise.parameters.items()}
    if not hasattr(model, "peft_config"):
        return redrawn(model, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.add_adapter(_ADAPTER, replace(model.peft_config["default"]))
    try:
        there = dict(model.named_parameters())
        return {name: there[_renamed(name)].detach().clone() for name in names}
    finally:
        model.delete_adapter(_ADAPTER)


def _renamed(name: str) -> str:
    """Name of a parameter in the adapter of another seed."""
    head, _, tail = name.rpartition(".default")
    return f"{head}.{_ADAPTER}{tail}"


def _memory(tuner: FineTune) -> int:
    """Bound on what a stack takes: of the device, not of the moment, so that a resumed sweep stacks as before."""
    device = tuner.model.device
    return int(torch.cuda.mem_get_info(device)[1] * _OF_A_GPU) if device.type == "cuda" else _MEMORY


def _lane_bytes(tuner: FineTune, length: int) -> int:
    config = tuner.model.config.get_text_config()
    own = sum(p.numel() * p.element_size() for p in tuner.model.parameters() if p.requires_grad)
    token = _FLOATS_A_WIDTH * config.num_hidden_layers * config.hidden_size
    return _COPIES * own + 4 * (token * length + 4 * config.vocab_size)


def _split(tuner: FineTune, lanes: Sequence[Lane], memory: int) -> Iterator[list[int]]:
    """Stacks of lanes with prompts of similar length, each within a bounded memory."""
    stack: list[int] = []
    for number in sorted(range(len(lanes)), key=lambda n: len(tuner.targets[lanes[n].index].ids)):
        # sorted, so this lane's prompt is the stack's longest and all are padded to it
        each = _lane_bytes(tuner, len(tuner.targets[lanes[number].index].ids))
        if stack and (len(stack) + 1) * each > memory:
            yield stack
            stack = []
        stack.append(number)
    if stack:
        yield stack
