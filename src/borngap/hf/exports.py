"""Contexts out of a scan: a spread of the worst pairs, each readable as it is by every other command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from borngap.context import Context, tokenize, write_contexts
from borngap.errors import UserError
from borngap.hf.positions import Scanner
from borngap.rows import Source

_SPARE = 4  # candidates a context wanted: some do not give the same tokens again


def spread(pairs: pl.DataFrame, count: int, source: Source, scanner: Scanner, tokenizer: Any) -> tuple[str, int]:
    """Choose contexts: one a pair, worst pair first, at its target with the lowest logit gap; then a second round.

    Their rows are read again. A context whose text does not give the scanned tokens again is left out.

    Args:
        pairs: pairs of a scan, worst first.
        count: how many contexts.
        source: the data.
        scanner: turns rows into token ids.
        tokenizer: the tokenizer.

    Returns:
        The contexts as JSON Lines, and how many were left out.
    """
    chosen = list(_candidates(pairs.filter(pl.col("rival_ahead") > 0).head(_SPARE * count), _SPARE * count))
    ids = _prefixes({(place["row"], place["start"], place["offset"]) for _, place in chosen}, source, scanner)
    contexts: list[Context] = []
    skipped = 0
    for pair, place in chosen if count else ():
        context = _context(ids[place["row"], place["start"], place["offset"]], pair, tokenizer)
        skipped += context is None
        contexts += [context] if context is not None else []
        if len(contexts) == count:
            break
    return write_contexts(contexts), skipped


def _candidates(pairs: pl.DataFrame, most: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    rows = pairs.to_dicts()
    found = ((pair, pair["examples"][turn]) for turn in (0, 1) for pair in rows if turn < len(pair["examples"]))
    for _, (pair, place) in zip(range(most), found, strict=False):
        if place["logit_gap"] <= 0:
            yield pair, place


_Place = tuple[int, int, int]


def _prefixes(places: set[_Place], source: Source, scanner: Scanner) -> dict[_Place, list[int]]:
    by_row: dict[int, list[_Place]] = {}
    for place in places:
        by_row.setdefault(place[0], []).append(place)
    found = {}
    for row in source.rows(0, max(by_row, default=-1) + 1):
        for place in by_row.get(row.number, ()):
            found[place] = scanner.example(row).ids[place[1] : place[2]]
    return found


def _context(ids: list[int], pair: dict[str, Any], tokenizer: Any) -> Context | None:
    """The context whose text gives these tokens again; None if there is none."""
    words = [" " + pair[name].strip() for name in ("gold", "competitor")]
    for skip in (False, True):  # a tokenizer that puts a start token in front does so again
        context = Context(tokenizer.decode(ids, skip_special_tokens=skip), *words)
        if context.prompt.strip() and _same(context, ids, pair, tokenizer):
            return context
    return None


def _same(context: Context, ids: list[int], pair: dict[str, Any], tokenizer: Any) -> bool:
    try:
        target = tokenize(context, tokenizer)
    except UserError:
        return False
    return (list(target.ids), target.gold_id, target.competitor_id) == (ids, pair["gold_id"], pair["competitor_id"])
