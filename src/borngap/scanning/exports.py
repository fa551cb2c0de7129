"""Contexts out of data: targets of a scan's worst pairs, each readable as it is by every other command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from borngap.context import Context, tokenize
from borngap.data.rows import DataSource, Row
from borngap.errors import UserError
from borngap.scanning.pairs import picks_of
from borngap.scanning.positions import Scanner
from borngap.scanning.supervised import Example
from borngap.tokens import decoded, word_text

SPARE = 4  # candidates a context wanted: data repeats itself
Written = tuple[list[int], str, str]
"""Tokens of a prompt, and gold and rival as they are written after it."""


def exported(
    pairs: pl.DataFrame, positions: Path, count: int, by: str, source: DataSource, scanner: Scanner, tokenizer: Any
) -> list[Context]:
    """Choose contexts: one a pair, worst pair first, then a second round, no prompt twice.

    Their rows are read again. A context holds token ids where its text alone would give others.

    Args:
        pairs: pairs of a scan, worst first.
        positions: ``positions.parquet`` of the scan.
        count: how many contexts.
        by: which targets of a pair come first, one of ``pairs.ORDERS``.
        source: the data.
        scanner: turns rows into token ids.
        tokenizer: the tokenizer.

    Returns:
        The contexts, at most so many.
    """
    if not count:
        return []
    leading = pairs.filter(pl.col("rival_ahead") > 0).head(SPARE * count)
    picks = picks_of(positions, leading, by, SPARE * count)
    return contexts_of_picks(picks, source, scanner.example, _forms, _note, tokenizer)[:count]


def contexts_of_picks(
    picks: Sequence[dict[str, Any]],
    source: DataSource,
    example: Callable[[Row], Example],
    forms: Callable[[dict[str, Any], list[int], Any], Iterable[Written]],
    note: Callable[[dict[str, Any], str], str],
    tokenizer: Any,
) -> list[Context]:
    """Return picked places of rows as contexts, no prompt with the same two tokens twice.

    Their rows are read again. A context holds token ids where its text alone would give others.

    Args:
        picks: places: ``row``, ``start`` and ``offset`` of what the model read, ``gold_id`` and ``rival_id``.
        source: the data.
        example: turns a row into token ids.
        forms: of a pick and its row's ids, ways to write it as text, the best first.
        note: of a pick and where its row stands, what the reader is told.
        tokenizer: the tokenizer.

    Returns:
        The contexts, in the picks' order.
    """
    found: dict[tuple[int, ...], Context] = {}
    for pick, ids, where in read_again(picks, source, example):
        read, tokens = ids[pick["start"] : pick["offset"]], (pick["gold_id"], pick["rival_id"])
        if (*read, *tokens) not in found:
            whole = _with_ids(read, tokens, note(pick, where), tokenizer)
            found[*read, *tokens] = _as_text(whole, forms(pick, ids, tokenizer), tokenizer) or whole
    return list(found.values())


def written(contexts: Sequence[Context]) -> dict[str, int]:
    """Return what is told of exported contexts: how many there are, and how many of them hold token ids."""
    return {"written": len(contexts), "with_ids": sum(context.prompt_ids is not None for context in contexts)}


def read_again(
    picks: Sequence[dict[str, Any]], source: DataSource, example: Callable[[Row], Example]
) -> Iterator[tuple[dict[str, Any], list[int], str]]:
    """Yield each pick with its row's tokens, and where that stands; in the picks' order."""
    rows = {pick["row"] for pick in picks}
    read: dict[int, tuple[list[int], str]] = {}
    for row in source.rows(0, max(rows, default=-1) + 1):
        if row.number in rows:
            read[row.number] = (example(row).ids, row.where)
    for pick in picks:
        yield pick, *read[pick["row"]]


def _forms(pick: dict[str, Any], ids: list[int], tokenizer: Any) -> Iterator[Written]:
    gold, rival = (word_text(pick[key], tokenizer) for key in ("gold_id", "rival_id"))
    yield ids[pick["start"] : pick["offset"]], gold, rival


def _note(pick: dict[str, Any], where: str) -> str:
    place = "" if pick["ahead"] == 1 else f", number {pick['place']} of {pick['ahead']} from the worst"
    return f"{where}: {pick['relation']}, logit gap {pick['logit_gap']:+.2f} nat in the scan{place}"


def _with_ids(read: list[int], tokens: tuple[int, int], note: str, tokenizer: Any) -> Context:
    gold, rival = (word_text(token, tokenizer) for token in tokens)
    return Context(decoded(read, tokenizer), gold, rival, tuple(read), *tokens, note)


def _as_text(whole: Context, forms: Iterable[Written], tokenizer: Any) -> Context | None:
    """The context by its text alone, in the first way of writing that gives its tokens again; None if none does."""
    for ids, gold, rival in forms:
        plain = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for prompt in (plain, decoded(ids, tokenizer)):
            short = Context(prompt, gold, rival, note=whole.note)
            if prompt.strip() and _same(short, whole, tokenizer):
                return short
    return None


def _same(short: Context, whole: Context, tokenizer: Any) -> bool:
    try:
        target = tokenize(short, tokenizer)
    except UserError:
        return False
    return (target.ids, target.gold_id, target.rival_id) == (whole.prompt_ids, whole.gold_id, whole.rival_id)
