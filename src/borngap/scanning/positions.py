"""From rows to positions: which supervised targets have a rival, in batches of forwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import torch
from torch import Tensor

from borngap.data.rows import Row
from borngap.data.tokenised import IGNORED
from borngap.errors import UserError
from borngap.model.readout import observing
from borngap.model.words import Words
from borngap.scanning.batches import Wanted, batched, logits_at, most_positions, span_of, split_at
from borngap.scanning.rivals import NUMBERS, Found, Rivals
from borngap.scanning.supervised import Example, Supervision, example_of, examples_of

_BEFORE_TOKENS, _BEFORE_CHARACTERS = 24, 80
POSITION_COLUMNS: dict[str, Any] = {
    "row": pl.Int64, "offset": pl.Int64, "start": pl.Int64, "where": pl.String, "gold_id": pl.Int32,
    "rival_id": pl.Int32, "gold": pl.String, "rival": pl.String, "relation": pl.String,
    **{name: pl.Int32 if name.endswith("rank") else pl.Float64 for name in NUMBERS}, "before": pl.String,
}  # fmt: skip


@dataclass
class Chunk:
    """What some rows hold.

    Attributes:
        positions: one row per supervised target that has a rival, in the order of the data.
        counts: ``rows``, ``malformed``, ``unsupervised`` (rows without a target), ``split`` (rows longer than a
            window), ``tokens``, ``targets`` (supervised), ``words`` (of these, whole words), ``with_neighbours`` (of
            these, words that have any candidate for a rival in the vocabulary).
        malformed: place and reason of malformed rows.
    """

    positions: pl.DataFrame
    counts: dict[str, int]
    malformed: list[tuple[str, str]] = field(default_factory=list)


COUNTS = ("rows", "malformed", "unsupervised", "split", "tokens", "targets", "words", "with_neighbours")


class Scanner:
    """Scans rows with one model."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        supervision: Supervision,
        words: Words,
        rivals: Rivals,
        relation: Callable[[int, int], str],
        window: int,
    ) -> None:
        """Prepare.

        Args:
            model: a Hugging Face causal LM.
            tokenizer: its tokenizer.
            supervision: turns rows into examples.
            words: the vocabulary as words.
            rivals: finds rivals.
            relation: says how a gold and a rival token are related.
            window: tokens that the model reads at once.
        """
        self._model, self._tokenizer, self._window = model, tokenizer, window
        self._supervision, self._words, self._rivals = supervision, words, rivals
        self._relation = relation
        self._most = most_positions(model)

    def scan(self, rows: Iterable[Row], *, strict: bool = False) -> Chunk:
        """Scan rows.

        Args:
            rows: the rows; held in memory together.
            strict: whether a malformed row is an error.

        Returns:
            What they hold.

        Raises:
            UserError: a malformed row, if strict; or the model's logits are NaN.
        """
        examples, malformed = examples_of(rows, self._supervision, len(self._words.text), strict=strict)
        counts = dict.fromkeys(COUNTS, 0) | {"rows": len(examples) + len(malformed), "malformed": len(malformed)}
        frames = [self._batch(batch) for batch in self.batches(examples, counts)]
        positions = pl.concat(frames).sort("row", "offset") if frames else pl.DataFrame(schema=POSITION_COLUMNS)
        return Chunk(positions, counts, malformed)

    @property
    def supervised(self) -> str:
        """What is supervised, in words."""
        return self._supervision.supervised

    def batches(self, examples: Sequence[Example], counts: dict[str, int]) -> Iterator[list[Wanted]]:
        """Return what needs a forward, in batches of windows of similar length.

        Args:
            examples: the examples.
            counts: gets the counts of tokens and targets.

        Returns:
            The batches.
        """
        return batched(list(self._wanted(examples, counts)) if examples else [], self._most)

    def example(self, row: Row) -> Example:
        """Turn a row into token ids and labels.

        Args:
            row: any row.

        Returns:
            The example.

        Raises:
            ValueError: the row is malformed; the message says why.
        """
        return example_of(row, self._supervision, len(self._words.text))

    def _wanted(self, examples: Sequence[Example], counts: dict[str, int]) -> Iterator[Wanted]:
        """Windows with the positions that need a forward: words that have a candidate."""
        read = [(at, document) for at, example in enumerate(examples) for document in example.documents]
        ids, labels = (
            torch.tensor([i for at, d in read for i in getattr(examples[at], key)[d.start : d.stop]], dtype=torch.int64)
            for key in ("ids", "labels")
        )
        sizes = torch.tensor([d.stop - d.start for _, d in read], dtype=torch.int64)
        part = torch.repeat_interleave(sizes)
        offset = torch.arange(len(ids)) - (sizes.cumsum(0) - sizes)[part]
        target = (labels != IGNORED) & (offset > 0)
        followed = (self._words.continues[ids] & (offset > 0)).roll(-1)
        word = target & self._words.whole[ids] & ~followed
        near = word.clone()
        near[word] = self._rivals.candidates.possible(ids[word])
        sums = {"tokens": torch.ones_like(target), "targets": target, "words": word, "with_neighbours": near}
        counts |= {name: int(mask.sum()) for name, mask in sums.items()}
        with_target = {read[i][0] for i in part[target].unique().tolist()}
        counts["unsupervised"] = len(examples) - len(with_target)
        counts["split"] = len({at for at, d in read if d.stop - d.start > self._window})
        found = offset[near].split(torch.bincount(part[near], minlength=len(read)).tolist())
        for (at, document), positions in zip(read, found, strict=True):
            yield from split_at(examples[at], document, positions + document.start, self._window, self._most)

    def _batch(self, batch: Sequence[Wanted]) -> pl.DataFrame:
        rows = torch.repeat_interleave(torch.tensor([len(at) for _, at in batch]))
        gold = torch.tensor([w.example.ids[i] for w, at in batch for i in at.tolist()])
        with observing(self._model):
            try:
                found = self._rivals.find(logits_at(self._model, batch), gold)
            except UserError as error:
                raise UserError(f"{error.what}, {span_of(batch)}", rule=error.rule, found=error.found) from None
        return self._frame(batch, rows, torch.cat([at for _, at in batch]), gold, found)

    def _frame(self, batch: Sequence[Wanted], rows: Tensor, at: Tensor, gold: Tensor, found: Found) -> pl.DataFrame:
        index = found.index.cpu()
        held = [batch[i][0] for i in rows[index].tolist()]
        offsets, golds, rivals = at[index].tolist(), gold[index].tolist(), found.rival.tolist()
        columns = {
            "row": [w.example.row.number for w in held],
            "offset": offsets,
            "start": [w.start for w in held],
            "where": [w.example.row.where for w in held],
            "gold_id": golds,
            "rival_id": rivals,
            "gold": [self._words.text[i] for i in golds],
            "rival": [self._words.text[i] for i in rivals],
            "relation": list(map(self._relation, golds, rivals)),
            **{name: value.tolist() for name, value in found.numbers.items()},
            "before": self._before(
                [w.example.ids[max(w.start, i - _BEFORE_TOKENS) : i] for w, i in zip(held, offsets, strict=True)]
            ),
        }
        return pl.DataFrame(columns, schema=POSITION_COLUMNS)

    def _before(self, ids: list[list[int]]) -> list[str]:
        texts = self._tokenizer.batch_decode(ids) if ids else []  # of no ids transformers makes one text
        return [text[-_BEFORE_CHARACTERS:] for text in texts]
