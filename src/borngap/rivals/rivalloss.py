"""RivalLoss: cross-entropy, and a term where a word has a rival; for Trainer, SFTTrainer, Lightning and plain loops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from borngap.choices import DEFAULT_TOP_P
from borngap.errors import UserError
from borngap.losses.averaged import IGNORED_LABEL, Items, per_item, shifted
from borngap.losses.form import LossForm, LossKind
from borngap.losses.formulae import WHOLE_ROWS, gap_loss, precise, row_loss, strongest
from borngap.losses.passthrough import picked
from borngap.model.hostloss import host_cross_entropy
from borngap.model.vocabulary import tokenizer_of
from borngap.rivals.fusedhead import join_fused_head
from borngap.rivals.host import (
    calling_trainer,
    check_trainer,
    has_fused_head,
    log_through,
    refuse_missing,
    warn_of_missing,
)  # fmt: skip
from borngap.rivals.nucleus import SynonymSpots, in_nucleus
from borngap.rivals.spots import PairSpots, SpotFinder, Spots, TermSpots
from borngap.rivals.tally import SpotsSeen, Tally
from borngap.words.termfile import terms_of

AUTO = "auto"
_PIECE = 256  # targets whose whole rows of logits are there at once
Head = Callable[[Tensor], Tensor]
"""Hidden states, shape (n, d), to logits, shape (n, V)."""


class RivalLoss:
    """Cross-entropy as the host has it, and a term at each target whose word has a rival (docs/remedies.md).

        loss = borngap.RivalLoss("style.csv", kind="margin", weight=3, margin=2)
        trainer = Trainer(..., compute_loss_func=loss)      # transformers
        loss.join(SFTTrainer(...)).train()                  # TRL

    The term is divided by the supervised tokens as the host divides its own loss. Without gradients (an evaluation) and
    at weight 0 it is the host's loss, bit for bit, so that losses of evaluations can be compared.

    Attributes:
        form: the formula and its numbers.
    """

    def __init__(
        self,
        rivals: Any,
        tokenizer: Any = None,
        *,
        kind: LossKind = "margin",
        weight: float = 3.0,
        margin: float = 2.0,
        top_p: float = DEFAULT_TOP_P,
    ) -> None:
        """Say which words are to win against which.

        Args:
            rivals: a file of terms, or a sequence of pairs of words, the wanted one first, as ``borngap.terms`` takes
                them; or a sequence of pairs of token ids, the right one first; or ``auto``: of every target that is a
                whole word the likeliest synonym, where it is in the model's own nucleus at that moment.
            tokenizer: the model's; a Trainer's ``processing_class`` unless given. Pairs of token ids need none.
            kind: ``margin``, ``logistic``, ``unlikelihood`` or ``weight``.
            weight: factor on the term, at least 0.
            margin: of ``margin``, the logit gap beyond which nothing is added, unit nat, at least 0.
            top_p: of ``auto``, nucleus mass, in (0, 1].

        Raises:
            UserError: weight or margin is not finite or negative, top_p is out of range, the words can't be read or
                contradict one another, or the words of a pair can't be held apart by any token.
        """
        self.form = LossForm(kind, weight, margin)
        if not 0 < top_p <= 1:
            raise UserError("top_p is out of range", rule="in (0, 1]", found=top_p)
        self._top_p, self._auto = top_p, isinstance(rivals, str) and rivals == AUTO
        self._pairs = tuple(map(tuple, rivals)) if _are_tokens(rivals) else ()
        self._finder: SpotFinder | None = PairSpots(self._pairs) if self._pairs else None
        self._terms = terms_of(rivals) if self._finder is None and not self._auto else None
        self._tally, self._met = Tally(), False
        if tokenizer is not None:
            self._read_by(tokenizer)

    def __repr__(self) -> str:
        """Say it in a line."""
        what = f"{len(self._terms)} terms" if self._terms else "synonyms" if self._auto else "pairs of tokens"
        return f"<{type(self).__name__} {self.form} of {what}>"

    def __call__(self, outputs: Any, labels: Tensor | None, num_items_in_batch: Items = None) -> Tensor:
        """Return the loss of a batch, as a Trainer's ``compute_loss_func`` does.

        Args:
            outputs: the model's, or its logits, shape (B, T, V); token t is predicted at t - 1.
            labels: token ids, -100 where nothing is learnt, shape (B, T).
            num_items_in_batch: supervised tokens of all batches of one update; the batch's own unless given.

        Returns:
            A scalar, unit nat.

        Raises:
            UserError: there are no logits or labels, or the Trainer has a loss that can't be joined.
        """
        if not self._met:
            self._meet(calling_trainer(self))
        logits, labels = _given(outputs, labels)
        if not torch.is_grad_enabled():
            return host_cross_entropy(logits, labels, num_items_in_batch)
        spots = self._found(labels, logits)
        through, values, gaps = self._at_logits(logits, spots)
        loss = host_cross_entropy(through, labels, num_items_in_batch)
        added = per_item(values, labels, num_items_in_batch) if len(values) else loss.new_zeros(())
        whole = loss + added if len(values) else loss
        self._tally.add(SpotsSeen(gaps, self.gaps_of_others(logits, spots), added, whole))
        return whole

    def term(self, states: Tensor, labels: Tensor, items: Items = None, *, head: Head | None = None) -> Tensor:
        """Return the term alone, for a loop that has its own cross-entropy.

        Args:
            states: logits, shape (B, T, V); or with ``head`` hidden states, shape (B, T, d), of which only those at
                rivals go through it.
            labels: token ids, -100 where nothing is learnt, shape (B, T).
            items: supervised tokens of all batches of one update; the batch's own unless given.
            head: hidden states to logits, such as ``model.lm_head``.

        Returns:
            A scalar, unit nat.
        """
        return per_item(self.at_spots(states, labels, head)[1], labels, items)

    def per_token(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of every target, for a loop that weighs tokens itself.

        Args:
            logits: shape (B, T, V).
            labels: token ids, -100 where nothing is learnt, shape (B, T).

        Returns:
            Cross-entropy and term where each label stands, 0 where nothing is learnt, shape (B, T), unit nat.
        """
        targets = shifted(labels).to(logits.device)
        losses = functional.cross_entropy(
            precise(logits).transpose(1, 2), targets, ignore_index=IGNORED_LABEL, reduction="none"
        )
        spots, values, _ = self.at_spots(logits, labels)
        if not len(values):
            return functional.pad(losses, (1, 0))[:, :-1]
        losses = losses.index_put((spots.rows, spots.columns - 1), values.to(losses.dtype), accumulate=True)
        return functional.pad(losses, (1, 0))[:, :-1]

    def at_spots(self, states: Tensor, labels: Tensor, head: Head | None = None) -> tuple[Spots, Tensor, Tensor]:
        """Return the targets with rivals and the term at each.

        Args:
            states: logits, or with ``head`` hidden states, as ``term`` takes them.
            labels: token ids, -100 where nothing is learnt, shape (B, T).
            head: hidden states to logits.

        Returns:
            The n targets; what is added at each, unit nat, shape (n,), or (0,) at weight 0; and the logit gaps there,
            without gradient, shape (n,).

        Raises:
            UserError: the labels are not those of the states.
        """
        if labels.ndim != 2 or labels.shape != states.shape[:-1] or labels.is_floating_point():
            found = f"labels {tuple(labels.shape)} of {labels.dtype} for states {tuple(states.shape)}"
            raise UserError("labels do not fit", rule="whole numbers (B, T) for states (B, T, V or d)", found=found)
        spots = self._found(labels.to(states.device), states, head)
        if not len(spots):
            none = states.new_zeros(0, dtype=torch.float32)
            return spots, none, none
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.form.weight > 0):
            rows = states[spots.rows, spots.columns - 1]
            added, gaps = _by_pieces(lambda some, own: self._of_rows(_logits(some, head), own), rows, spots)
        return spots, added if self.form.weight else added[:0], gaps

    def gaps_of_others(self, states: Tensor, spots: Spots, head: Head | None = None) -> Tensor:
        """Return the logit gaps of the words to use where those to avoid stand.

        Args:
            states: logits, or with ``head`` hidden states, as ``term`` takes them.
            spots: of the batch.
            head: hidden states to logits.

        Returns:
            Unit nat, without gradient, shape (m,).
        """
        if not len(spots.others):
            return states.new_zeros(0, dtype=torch.float32)
        rows, words = states.detach()[spots.others[:, 0], spots.others[:, 1] - 1], spots.others[:, 2:]
        with torch.no_grad():
            pieces = zip(rows.split(_PIECE), words.split(_PIECE), strict=True)
            found = precise(torch.cat([_logits(some, head).gather(1, own) for some, own in pieces]))
        return found[:, 0] - found[:, 1]

    def join(self, trainer: Any) -> Any:
        """Join a trainer, once it is made: Trainer, or TRL's SFTTrainer with its chunked head.

        Args:
            trainer: transformers' Trainer or TRL's SFTTrainer.

        Returns:
            The trainer.

        Raises:
            UserError: it has a loss that can't be joined, or none of the words stand in its training data.
        """
        self._meet(trainer)
        if has_fused_head(trainer):
            join_fused_head(trainer.model, self)
        else:
            trainer.compute_loss_func = self
        return trainer

    @property
    def words(self) -> list[list[str]] | list[list[int]] | str:
        """What was given: pairs of words or of token ids, the right one first; or ``auto``."""
        if self._terms is not None:
            return [[term.use, term.avoid] for term in self._terms]
        return AUTO if self._auto else [list(pair) for pair in self._pairs]

    def alone(self, tokenizer: Any) -> RivalLoss:
        """Return the same loss for a loop of its own, with numbers of its own.

        Args:
            tokenizer: of the loop's model.
        """
        form, given = self.form, self._pairs or self._terms or AUTO
        return RivalLoss(
            given, tokenizer, kind=form.kind, weight=form.weight, margin=form.margin, top_p=self._top_p
        )  # fmt: skip

    def check_rows(self, rows: Iterable[Tensor], where: str) -> None:
        """Refuse rows in which none of the words to use stands.

        Args:
            rows: labels of rows, -100 where nothing is learnt, each of shape (T,).
            where: what the rows are, for the message.

        Raises:
            UserError: none stands there.
        """
        finder = self._known_finder()
        missing = finder.missing(rows)
        if missing and len(missing) == finder.count:
            refuse_missing(missing, where)

    def numbers(self) -> dict[str, float]:
        """Return what was done since this was last asked; a Trainer's own log has it without asking.

        Returns:
            ``rival_loss/targets`` acted on a batch, ``rival_loss/share`` of the loss, ``rival_loss/success`` and
            ``rival_loss/over_use``: of this process, in training; what there is nothing to tell of is missing.
        """
        return self._tally.read()

    def tell(self, seen: SpotsSeen) -> None:
        """Take what was seen in a batch into the numbers."""
        self._tally.add(seen)

    def _meet(self, trainer: Any) -> None:
        """Check whom it works for, at the start; nothing of a plain loop."""
        self._met = True
        if trainer is None:
            return
        check_trainer(trainer, self)
        if self._finder is None:
            self._read_by(getattr(trainer, "processing_class", None))
        warn_of_missing(trainer, self._known_finder())
        log_through(trainer, self)

    def _read_by(self, processing: Any) -> None:
        if processing is None:
            return
        if self._auto:
            self._finder = SynonymSpots(tokenizer_of(processing))
        elif self._terms is not None:
            self._finder = TermSpots(self._terms, tokenizer_of(processing))

    def _known_finder(self) -> SpotFinder:
        if self._finder is None:
            rule = "words are found in labels by the model's tokenizer"
            raise UserError("no tokenizer", rule=rule, fix="give tokenizer= to RivalLoss")
        return self._finder

    def _found(self, labels: Tensor, states: Tensor, head: Head | None = None) -> Spots:
        """The spots of a batch; of synonyms those that the model has in its nucleus."""
        spots = self._known_finder().find(labels)
        if head is None:
            _check_rows(spots, states.shape[-1])
        if not self._auto or not len(spots):
            return spots
        with torch.no_grad():
            rows = states.detach()[spots.rows, spots.columns - 1]
            pieces = zip(rows.split(_PIECE), spots.rivals.split(_PIECE), strict=True)
            found = [in_nucleus(_logits(some, head), own, self._top_p) for some, own in pieces]
        best, kept = (torch.cat(parts) for parts in zip(*found, strict=True))
        rows, columns, golds = (part[kept] for part in (spots.rows, spots.columns, spots.golds))
        return Spots(rows, columns, golds, best[kept, None], spots.others)

    def _at_logits(self, logits: Tensor, spots: Spots) -> tuple[Tensor, Tensor, Tensor]:
        """Logits to go on with, what is added at the spots, none at weight 0, and the logit gaps there."""
        at = (spots.rows, spots.columns - 1)
        if not len(spots) or not self.form.weight:
            entries = precise(logits.detach()[at[0][:, None], at[1][:, None], _ids(spots)])
            return logits, entries.new_zeros(0), _gaps(entries, spots)[0]
        if self.form.kind in WHOLE_ROWS:
            through, rows = picked(logits, *at)
            return through, *self._of_rows(rows, spots)
        through, entries = picked(logits, at[0][:, None], at[1][:, None], _ids(spots))
        gaps, _ = _gaps(precise(entries), spots)
        return through, gap_loss(self.form, gaps), gaps.detach()

    def _of_rows(self, rows: Tensor, spots: Spots) -> tuple[Tensor, Tensor]:
        """What is added at the spots, of all logits there, and the logit gaps."""
        gaps, rivals = _gaps(precise(rows.gather(1, _ids(spots))), spots)
        return row_loss(self.form, rows, spots.golds, rivals), gaps.detach()


def _are_tokens(rivals: Any) -> bool:
    """Whether rivals are given as pairs of token ids."""
    if isinstance(rivals, str | Path) or not isinstance(rivals, Sequence):
        return False
    pairs = [tuple(pair) for pair in rivals if isinstance(pair, Sequence) and not isinstance(pair, str)]
    return bool(pairs) and all(isinstance(token, int) for pair in pairs for token in pair)


def _check_rows(spots: Spots, size: int) -> None:
    """Refuse tokens that the logits have no place for."""
    largest = max((int(ids.max()) for ids in (spots.rivals, spots.others[:, 2:]) if ids.numel()), default=-1)
    if largest >= size:
        rule = f"token ids below {size}, the model's logits"
        raise UserError("a pair has a token that the model can't predict", rule=rule, found=largest)


def _given(outputs: Any, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits and labels of a batch, on one device."""
    logits = outputs if isinstance(outputs, Tensor) else getattr(outputs, "logits", None)
    if logits is None and isinstance(outputs, Sequence):
        logits = outputs[0]
    if logits is None or labels is None:
        found = "no labels" if labels is None else "no logits: a fused loss (such as Liger's) keeps them to itself"
        raise UserError("a loss on rivals needs logits and labels", rule="both, of every batch", found=found)
    if getattr(outputs, "aux_loss", None) is not None:
        rule = "the host's loss is the mean cross-entropy"
        fix = "set output_router_logits=False, or add loss.term(...) to the host's loss yourself"
        raise UserError("this model adds a loss of its own", rule=rule, found="aux_loss, of its experts", fix=fix)
    return logits, labels.to(logits.device)


def _ids(spots: Spots) -> Tensor:
    """Right tokens and rivals, shape (n, 1 + k)."""
    return torch.cat([spots.golds[:, None], spots.rivals.clamp(min=0)], 1)


def _gaps(entries: Tensor, spots: Spots) -> tuple[Tensor, Tensor]:
    """Logit gap of right token and strongest rival, and that rival; of logits as ``_ids`` orders them."""
    which = strongest(entries[:, 1:], spots.rivals)[:, None]
    return entries[:, 0] - entries[:, 1:].gather(1, which)[:, 0], spots.rivals.gather(1, which)[:, 0]


def _logits(states: Tensor, head: Head | None) -> Tensor:
    """Logits of states, which are logits already unless there is a head."""
    return states if head is None else head(states)


def _by_pieces(
    values: Callable[[Tensor, Spots], tuple[Tensor, Tensor]], rows: Tensor, spots: Spots
) -> tuple[Tensor, Tensor]:
    """Compute at few targets at once; what is more than that is computed again in the backward, not kept."""
    if len(spots) <= _PIECE:
        return values(rows, spots)
    starts = range(0, len(spots), _PIECE)
    found = [
        checkpoint(values, rows[start : start + _PIECE], spots.part(start, start + _PIECE), use_reentrant=False)
        for start in starts
    ]
    added, gaps = zip(*found, strict=True)
    return torch.cat(added), torch.cat(gaps)
