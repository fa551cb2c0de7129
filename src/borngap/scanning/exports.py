"""Contexts out of a scan: targets of the worst pairs, each readable as it is by every other command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from borngap.context import Context, tokenize
from borngap.data.rows import DataSource
from borngap.errors import UserError
from borngap.scanning.pairs import picks_of
from borngap.scanning.positions import Scanner
from borngap.tokens import decoded, word_text

_SPARE = 4  # candidates a context wanted: data repeats itself
_Place = tuple[int, int, int]


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
    leading = pairs.filter(pl.col("rival_ahead") > 0).head(_SPARE * count)
    picks = picks_of(positions, leading, by, _SPARE * count)
    found: dict[tuple[Any, ...], Context] = {}
    for pick, ids, where in _prefixes(picks, source, scanner):
        found.setdefault((*ids, pick["gold_id"], pick["rival_id"]), _context(ids, pick, where, tokenizer))
    return list(found.values())[:count]


def _prefixes(
    picks: list[dict[str, Any]], source: DataSource, scanner: Scanner
) -> Iterator[tuple[dict[str, Any], list[int], str]]:
    """Each pick with the tokens before its target, and where its row stands; in the picks' order."""
    rows = {pick["row"] for pick in picks}
    read: dict[int, tuple[list[int], str]] = {}
    for row in source.rows(0, max(rows, default=-1) + 1):
        if row.number in rows:
            read[row.number] = (scanner.example(row).ids, row.where)
    for pick in picks:
        ids, where = read[pick["row"]]
        yield pick, ids[pick["start"] : pick["offset"]], where


def _context(ids: list[int], pick: dict[str, Any], where: str, tokenizer: Any) -> Context:
    """The context by its text if that gives these tokens again, and else with the token ids beside it."""
    place = "" if pick["ahead"] == 1 else f", number {pick['place']} of {pick['ahead']} from the worst"
    note = f"{where}: {pick['relation']}, logit gap {pick['logit_gap']:+.2f} nat in the scan{place}"
    gold, rival = pick["gold_id"], pick["rival_id"]
    words = (word_text(gold, tokenizer), word_text(rival, tokenizer))
    whole = Context(decoded(ids, tokenizer), words[0], words[1], tuple(ids), gold, rival, note)
    plain = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    for prompt in (plain, whole.prompt):
        short = Context(prompt, words[0], words[1], note=note)
        if prompt.strip() and _same(short, whole, tokenizer):
            return short
    return whole


def _same(short: Context, whole: Context, tokenizer: Any) -> bool:
    try:
        target = tokenize(short, tokenizer)
    except UserError:
        return False
    return (target.ids, target.gold_id, target.rival_id) == (whole.prompt_ids, whole.gold_id, whole.rival_id)
