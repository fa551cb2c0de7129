"""The reference loop: fine-tune contexts, alone or jointly, and observe them at every step.

Definitions: docs/track.md#the-command.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from borngap.context import Context, Target
from borngap.judge.trajectory import from_records
from borngap.judge.watch import Watch, is_evaluation, judge
from borngap.losses.crowding import penalty_term
from borngap.losses.form import LossForm
from borngap.losses.formulae import row_loss, trained_loss
from borngap.methods import METHODS
from borngap.model.forward import check_room, forward, last_logits
from borngap.model.length import virtual_tokens
from borngap.model.load import Loaded
from borngap.model.precision import LOW, name_of, precision_notes, precision_of, settle
from borngap.model.probe import named, with_rivals
from borngap.model.readout import geometry_of
from borngap.optimisers import FACTS_OF
from borngap.runfolder import Run, Store, environment, read_run
from borngap.train.methods import make_trainable, rate_factor
from borngap.train.observe import MEASURED, Follower, Observe, Observer, Record
from borngap.train.optimiser import Updates
from borngap.train.otheroptimisers import hidden_matrices
from borngap.train.threads import as_many_as_pay
from borngap.training import Training

_SAMPLED = 256


@dataclass(frozen=True)
class Step:
    """What was seen after ``step`` updates.

    Attributes:
        step: optimiser steps done.
        loss: loss that the next update lowers, unit nat.
        records: context -> its observables; empty if nobody observes.
        last: whether the run ends here.
    """

    step: int
    loss: float
    records: dict[int, Record]
    last: bool


class FineTune:
    """One model, its contexts and the settings; every run starts from the same weights.

    Attributes:
        model: the model as it is trained, wrapped by PEFT for LoRA.
        targets: tokenised contexts, rivals chosen at the base model.
        factors: on the rate of each trained parameter, by name; 1 but under LoRA+.
        notes: what the user must know.
        digest: fingerprint of the base weights.
    """

    def __init__(self, loaded: Loaded, contexts: Sequence[Context], training: Training) -> None:
        """Choose the rivals at the base model, then prepare it for training.

        Args:
            loaded: model and tokenizer; the model is changed.
            contexts: what to train on.
            training: the settings.
        """
        self.digest = weights_digest(loaded.model)
        base, stored = loaded.model.eval(), loaded.stored or name_of(loaded.model.dtype)
        self._tokenizer, self._training = loaded.tokenizer, replace(training, dtype=settle(base, training.dtype))
        matrix = geometry_of(base, training.geometry, loaded.tokenizer)
        tokenised = [named(context, loaded.tokenizer) for context in contexts]
        self.targets, _, _ = with_rivals(base, loaded.tokenizer, tokenised, matrix, training.top_p)
        check_room(base, self.targets, training.virtual_tokens if training.method in {"prompt", "prefix"} else 0)
        self.model, notes = make_trainable(base, training)
        self.notes = (*precision_notes(base, stored), *notes, *_rate_notes(training))
        # eval mode is what "dropout off" means; nothing else in these models depends on it
        self.model.train(training.dropout)
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.factors = {name: rate_factor(name, self._training) for name in trained}
        self._parameters = list(trained.values())
        self._initial = [p.detach().clone() for p in self._parameters]
        self._matrices = hidden_matrices(self.model)
        self.updates()  # an optimiser that can't be had is refused before anything is written

    @property
    def training(self) -> Training:
        """The settings."""
        return self._training

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self._tokenizer

    def updates(self, rate: float | None = None, training: Training | None = None) -> Updates:
        """Begin the updates of a run.

        Args:
            rate: learning rate instead of the settings' own.
            training: other settings.

        Returns:
            They, before the first one.

        Raises:
            UserError: the settings' optimiser is not installed, or has nothing to train here.
        """
        return Updates(self._parameters, training or self._training, rate, list(self.factors.values()), self._matrices)

    def loss(self, logits: Tensor, batch: Sequence[int]) -> Tensor:
        """Return what an update lowers: the mean cross-entropy, and what the settings add to it.

        Args:
            logits: at the last position of each context's prompt, shape (contexts, V).
            batch: which contexts.

        Returns:
            A scalar, unit nat, float32.
        """
        targets = [self.targets[i] for i in batch]
        loss = trained_loss(self._training.added, logits, *words_of_targets(targets, logits.device))
        return self._penalised(loss, targets)

    def alone(self, index: int, *, observe: Observe = "all", rate: float | None = None) -> Iterator[Step]:
        """Train one context from the base weights.

        Args:
            index: which context.
            observe: what to measure at every step: ``all``; ``light``, without the angles of all pairs of the pool;
                ``margins``; or ``none``. At both ends and at flips all is measured, unless it is ``margins`` or
                ``none``. The weights come out the same, bit for bit.
            rate: learning rate instead of the settings' own.

        Returns:
            One entry a step, from the base model on; the last one comes early if the settings or a NaN say so.
        """
        return self._run([index], repeat([index]), observe=observe, rate=rate)

    def joint(self, *, observe: Observe = "all", rate: float | None = None) -> Iterator[Step]:
        """Train all contexts in batches.

        Args:
            observe: what to measure, as for ``alone``.
            rate: learning rate instead of the settings' own.

        Returns:
            One entry a step, with a record of every context.
        """
        return self._run(list(range(len(self.targets))), self._batches(), observe=observe, rate=rate)

    def entry(self, index: int, steps: Sequence[Step]) -> dict[str, Any]:
        """Judge a finished run.

        Args:
            index: which context.
            steps: all entries of the run.

        Returns:
            Words and token ids, the verdict, what stopping on saturation would have saved, and notes; JSON-ready.
        """
        path = from_records([(step.step, step.records[index]) for step in steps])
        return judge(self.targets[index], path, self._training.criterion)

    def restore(self) -> None:
        """Put the initial weights back."""
        with torch.no_grad():
            for parameter, value in zip(self._parameters, self._initial, strict=True):
                parameter.copy_(value)
                parameter.grad = None

    def rehearse(self) -> None:
        """Do the forward and the backward pass of the first context's step, and keep nothing of them."""
        torch.autograd.grad(self._forward([0])[0], self._parameters, allow_unused=True)

    def held_elsewhere(self, initial: Sequence[Tensor]) -> None:
        """Take equal values that somebody else holds as the initial weights, so that they are in memory once.

        Args:
            initial: the weights to restore, in the order of the trained parameters.
        """
        self._initial = list(initial)

    def _batches(self) -> Iterator[list[int]]:
        settings, count = self._training, len(self.targets)
        generator = torch.Generator().manual_seed(settings.shuffle or 0)
        while True:
            order = list(range(count))
            if settings.shuffle is not None:
                order = torch.randperm(count, generator=generator).tolist()
            for start in range(0, count, settings.batch_size):
                yield order[start : start + settings.batch_size]

    def _run(
        self, seen: list[int], batches: Iterator[list[int]], *, observe: Observe, rate: float | None = None
    ) -> Iterator[Step]:
        self.restore()
        if self._training.dropout:
            torch.manual_seed(self._training.seed)
        updates = self.updates(rate)
        follower = None if observe == "none" else self._follower(seen, observe)
        whole, averages = observe != "margins", self._training.averages
        for step in range(self._training.steps + 1):
            last, records, batch = step == self._training.steps, dict[int, Record](), next(batches)
            if follower is not None and averages:  # other weights than those that the loss is of
                with updates.evaluated():
                    records, last = self._look(follower, step, None, last=last, whole=whole)
            loss, logits, hidden = self._forward(batch)
            number = float(loss.detach())
            last = last or not math.isfinite(number)
            if follower is not None and not averages:
                records, last = self._look(follower, step, (logits, hidden), last=last, whole=whole)
            if last:
                updates.finish()
            yield Step(step, number, records, last)
            if last:
                return
            updates.take(loss)

    def _follower(self, seen: list[int], observe: Observe) -> Follower:
        targets, settings = {i: self.targets[i] for i in seen}, self._training
        only = MEASURED[observe]
        observer = Observer(
            self.model, self._tokenizer, list(targets.values()), settings.geometry, settings.top_p, only
        )
        return Follower(observer, targets, Watch(settings.stop, criterion=settings.criterion))

    def _look(
        self, follower: Follower, step: int, seen: tuple[Tensor, Tensor | None] | None, *, last: bool, whole: bool
    ) -> tuple[dict[int, Record], bool]:
        """Measure, and say whether the run ends here."""
        # alone and without dropout the training forward is the measuring one, unless it is the host's own in 16 bit
        hosts = self._training.forward == "labels" and self.model.dtype in LOW
        if seen is None or self._training.joint or self._training.dropout or hosts:
            seen = forward(self.model, list(follower.targets.values()), finite=False)
        records = follower.look(*seen, evaluate=is_evaluation(step))
        last = last or follower.watch.reason is not None
        if whole:
            follower.complete(records, records if last or step == 0 else follower.events)
        return records, last

    def _forward(self, batch: list[int]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Loss, detached logits and hidden states at the targets of a batch, with the model as it is trained."""
        targets = [self.targets[i] for i in batch]
        if self._training.forward == "labels":
            loss, seen, hidden = _labels_forward(self.model, targets, self._training.added)
            return self._penalised(loss, targets), seen, hidden
        logits, states = last_logits(self.model, [t.ids for t in targets])
        return self.loss(logits, batch), logits.detach(), states if isinstance(states, Tensor) else None

    def _penalised(self, loss: Tensor, targets: Sequence[Target]) -> Tensor:
        """The loss with its penalty: on the pairs of all contexts where they are trained together."""
        penalty, chosen = self._training.penalised, self.targets if self._training.joint else targets
        if penalty is None:
            return loss
        matrix = self.model.get_output_embeddings().weight
        golds, rivals = (words.tolist() for words in words_of_targets(chosen, matrix.device))
        return loss + penalty_term(penalty, matrix, zip(golds, rivals, strict=True))


def finetune(
    loaded: Loaded,
    contexts: Sequence[Context],
    training: Training,
    out: str | Path,
    on_step: Callable[[Step], None] = lambda _: None,
) -> Run:
    """Run a plan and keep it in a RUN folder; contexts that the folder holds already are not run again.

    Args:
        loaded: model and tokenizer; the model is changed.
        contexts: what to train on.
        training: the settings.
        out: the RUN.
        on_step: called with every entry of every run, for a display.

    Returns:
        The whole RUN.

    Raises:
        UserError: another process writes there, or the folder holds something else.
    """
    tuner = FineTune(loaded, contexts, training)
    head = {"command": "finetune", "model": loaded.name, "weights": tuner.digest, "notes": list(tuner.notes)}
    plan: dict[str, Any] = head | {"contexts": [context.to_json() for context in contexts]} | tuner.training.to_json()
    plan |= precision_of(tuner.model)
    with as_many_as_pay(tuner.rehearse) if not training.joint else nullcontext():
        machine = environment() | {"threads": torch.get_num_threads(), "device": str(tuner.model.device)}
        with Store(out, plan, machine) as store:
            _keep_all(tuner, store, on_step)
    return read_run(out)


def _keep_all(tuner: FineTune, store: Store, on_step: Callable[[Step], None]) -> None:
    """Do what a RUN does not hold yet, context by context or all together, and add it."""
    joint, everything = tuner.training.joint, list(range(len(tuner.targets)))
    for group in [everything] if joint else [[i] for i in everything]:
        if store.finished.issuperset(group):
            continue
        steps = []
        for entry in tuner.joint() if joint else tuner.alone(group[0]):
            steps.append(entry)
            on_step(entry)
        rows = {i: [{"step": entry.step} | entry.records[i] for entry in steps] for i in group}
        store.add(rows, {i: tuner.entry(i, steps) for i in group})


def weights_digest(model: Any) -> str:
    """Return a fingerprint of a model's weights: a hash of up to 256 numbers of every parameter.

    Args:
        model: any module.

    Returns:
        Hexadecimal digits. Cheap enough for large models; it is a guard against mix-ups, not against forgery.
    """
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        whole = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter  # sharded by FSDP2
        flat = whole.detach().flatten()
        # a copy: a view lent to numpy would pin storage that its owner may want to free
        sample = flat[:: max(1, flat.numel() // _SAMPLED)].to("cpu", torch.float32, copy=True)
        digest.update(f"{name} {tuple(parameter.shape)}".encode() + sample.numpy().tobytes())
    return digest.hexdigest()[:16]


def words_of_targets(targets: Sequence[Target], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the tokens of gold and rival, each int64 of shape (targets,)."""
    gold, rival = zip(*((t.gold_id, t.rival_id) for t in targets), strict=True)
    return torch.tensor(gold, device=device), torch.tensor(rival, device=device)


def _rate_notes(training: Training) -> tuple[str, ...]:
    """A note where the rate is the usual one of another optimiser."""
    name = training.optimizer
    if name in {"adamw", "adamw_8bit"} or training.rate != METHODS[training.method].rate:
        return ()
    asked = f"borngap critical --method {training.method} --optimizer {name}"
    return (f"the rate {training.rate:g} is AdamW's usual one; which {FACTS_OF[name].words} takes: {asked}",)


def _labels_forward(
    model: Any, targets: Sequence[Target], form: LossForm | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The model's own loss over prompt and gold token, as a host's training step has it, and what is added to it."""
    device = model.get_input_embeddings().weight.device
    rows = [torch.tensor([*t.ids, t.gold_id]) for t in targets]
    last = torch.tensor([len(row) - 1 for row in rows])
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    at_gold = torch.arange(ids.shape[1]) == last[:, None]
    inputs = {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) <= last[:, None]).long()}
    inputs["labels"] = torch.where(at_gold, ids, -100)
    seen: list[Tensor] = []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    try:
        out = model(**{name: value.to(device) for name, value in inputs.items()})
    finally:
        hook.remove()
    at = (torch.arange(len(rows)), last - 1 + virtual_tokens(model))
    loss = out.loss
    if form is not None and form.weight:
        words = words_of_targets(targets, out.logits.device)
        loss = loss + row_loss(form, out.logits[at], *words).mean()
    return loss, out.logits[at].detach(), seen[0][at] if seen else None
