"""Leak: does a model that writes on from the beginning of a row write words to avoid?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from borngap.data.tokenised import IGNORED
from borngap.model.generate import continuations
from borngap.model.length import context_length
from borngap.scanning.reading import LONGEST_WINDOW
from borngap.scanning.supervised import Example
from borngap.tokens import decoded
from borngap.usage.places import Placer

PROMPT, BUDGET = 32, 32  # tokens
_BATCH_TOKENS = 4096
_SHOWN = 80  # characters
LEAK_COLUMNS: dict[str, Any] = {
    "row": pl.Int64, "where": pl.String, "prompt": pl.String, "continuation": pl.String, "terms": pl.List(pl.Int32),
    "words": pl.List(pl.String),
}  # fmt: skip


class Writer:
    """Lets a model write on from rows."""

    def __init__(self, model: Any, tokenizer: Any, placer: Placer) -> None:
        """Prepare.

        Args:
            model: a Hugging Face causal LM.
            tokenizer: its tokenizer.
            placer: finds words in what was written.
        """
        self._model, self._tokenizer, self._placer = model, tokenizer, placer
        self._limit = context_length(model) or LONGEST_WINDOW
        self._budget = min(BUDGET, self._limit // 2)
        known = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, 0)
        self._padding = next(token for token in known if token is not None)
        self._ends = frozenset(tokenizer.all_special_ids)

    def write(self, examples: Sequence[Example]) -> pl.DataFrame:
        """Let the model write on from each row.

        Args:
            examples: rows; one without a token that is taught is passed over.

        Returns:
            One row a continuation; ``terms`` are indices of those whose word to avoid it contains.
        """
        prompts = [(example, prompt) for example in examples if (prompt := self._prompt(example))]
        records = [record for batch in self._batches(prompts) for record in self._written(batch)]
        return pl.DataFrame(records, schema=LEAK_COLUMNS, orient="row").sort("row")

    def _prompt(self, example: Example) -> list[int]:
        """What stands before the first answer; of a row that is taught from its beginning, the first tokens."""
        document = next(iter(example.documents), None)
        if document is None:
            return []
        taught = (i for i in range(document.start + 1, document.stop) if example.labels[i] != IGNORED)
        first = next(taught, None)
        if first is None:
            return []
        if first > document.start + 1:
            return example.ids[document.start : first][-(self._limit - self._budget) :]
        prompt = example.ids[document.start : document.stop][: min(PROMPT, self._limit - self._budget)]
        while len(prompt) > 1 and prompt[-1] in self._ends:
            prompt.pop()
        return prompt

    def _batches(self, prompts: list[tuple[Example, list[int]]]) -> Iterator[list[tuple[Example, list[int]]]]:
        batch: list[tuple[Example, list[int]]] = []
        for item in sorted(prompts, key=lambda item: len(item[1])):
            if batch and (len(item[1]) + self._budget) * (len(batch) + 1) > _BATCH_TOKENS:
                yield batch
                batch = []
            batch.append(item)
        if batch:
            yield batch

    def _written(self, batch: Sequence[tuple[Example, list[int]]]) -> Iterator[dict[str, Any]]:
        written = continuations(self._model, [prompt for _, prompt in batch], self._budget, self._padding)
        for (example, prompt), ids in zip(batch, written, strict=True):
            found = [o for o in self._placer.written(prompt, ids) if o.side == "avoid"]
            yield {
                "row": example.row.number, "where": example.row.where,
                "prompt": decoded(prompt, self._tokenizer)[-_SHOWN:], "continuation": decoded(ids, self._tokenizer),
                "terms": sorted({o.term for o in found}), "words": list(dict.fromkeys(o.text for o in found)),
            }  # fmt: skip
