"""Writing what remedies are made of: preference pairs, a logit bias, up-sampled rows; out of the places of terms.

A bias of -b on the words to avoid adds b to every logit gap of a wanted word over its rival, so its effect on success
and over-use follows from the gaps that were measured; what it does elsewhere is not measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from borngap.data.rows import DataSource, Row
from borngap.errors import UserError
from borngap.files import json_bytes, write_whole
from borngap.scanning.exports import Written, contexts_of_picks, read_again
from borngap.usage.asking import DATA
from borngap.usage.exports.remedyfiles import RemedyFiles
from borngap.usage.finding import PlaceFinder
from borngap.usage.shares import DUE, RIGHT

_KNOWN = pl.col("offset").is_not_null()
_WANTED = pl.col("kind") == "due"  # of the data the model need not have been asked
_RIGHT = ~_WANTED & pl.col("allowed")
_IDS = ("use_id", "avoid_id")


def write_remedies(
    places: pl.DataFrame, asked: pl.DataFrame, wanted: RemedyFiles, texts: Mapping[str, tuple[DataSource, PlaceFinder]],
    tokenizer: Any, limit: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Write the files that are wanted; none where one of them can't be made.

    Args:
        places: of all texts; what the model says there counts for nothing.
        asked: places at which the model was asked; a bias is made of them.
        wanted: which files.
        texts: name of a text, ``data`` and perhaps ``held-out`` -> its rows, and what turns them into token ids.
        tokenizer: the tokenizer.
        limit: rows of the data that count; None for all.

    Returns:
        What is told of each: ``pairs``, ``bias``, ``rows``.

    Raises:
        UserError: there is nothing to write, or over-use is not known where a bias is wanted.
    """
    told: dict[str, Any] = {}
    files: dict[Any, bytes] = {}
    own = places.filter(pl.col("data") == DATA)
    if wanted.export_pairs is not None:
        pairs, left_out = preference_pairs(own, wanted, *texts[DATA], tokenizer)
        _refuse_none(pairs, "preference pairs", "no place of a wanted word in the data is measured")
        files[wanted.export_pairs] = b"".join(map(_line, pairs))
        told["pairs"] = {"file": str(wanted.export_pairs), "written": len(pairs), "left_out": left_out}
    if wanted.export_bias is not None:
        fitted = fitted_bias(asked, wanted.bias_over_use)
        sequences = avoided(asked, texts)
        entries = [[list(ids), -fitted["bias"]] for ids in sequences]
        files[wanted.export_bias] = json_bytes({"sequence_bias": entries})
        told["bias"] = {"file": str(wanted.export_bias), "sequences": len(entries), **fitted}
    if wanted.export_rows is not None:
        rows, more = repeated(own, wanted.rows_times, *texts[DATA], limit)
        _refuse_none(more, "up-sampled rows", "no row of the data has a wanted word")
        files[wanted.export_rows] = b"".join(map(_line, rows))
        told["rows"] = {"file": str(wanted.export_rows), "written": len(rows), "repeated": len(more)}
    for path, content in files.items():
        write_whole(path, content)
    return told


def preference_pairs(
    places: pl.DataFrame, wanted: RemedyFiles, source: DataSource, finder: PlaceFinder, tokenizer: Any
) -> tuple[list[dict[str, str]], int]:
    """Return places as preference pairs, no prompt with the same two words twice.

    Args:
        places: of the data.
        wanted: whether places count too where the word to avoid is right.
        source: the data.
        finder: turns its rows into token ids.
        tokenizer: the tokenizer.

    Returns:
        The pairs: ``prompt``, ``chosen``, ``rejected``; and how many places are left out because their text alone does
        not give the row's tokens.
    """
    chosen = (_WANTED | _RIGHT) if wanted.pairs_both_ways else _WANTED
    gold, rival = (pl.when(_WANTED).then(pl.col(a)).otherwise(pl.col(b)) for a, b in (_IDS, _IDS[::-1]))
    picks = places.filter(chosen & _KNOWN).with_columns(gold_id=gold, rival_id=rival).to_dicts()
    found = contexts_of_picks(picks, source, finder.example, _whole_words, _no_note, tokenizer)
    pairs = [
        {"prompt": context.prompt, "chosen": context.gold, "rejected": str(context.rival)}
        for context in found
        if context.prompt_ids is None
    ]
    return pairs, len(found) - len(pairs)


def fitted_bias(asked: pl.DataFrame, over_use: float) -> dict[str, Any]:
    """Return the largest bias that lets the wanted word lead at no more than so many more places of right rivals.

    Args:
        asked: places at which the model was asked.
        over_use: by how much the share of these places may grow.

    Returns:
        ``bias``, unit nat, at least 0, and success and over-use ``before`` and with it.

    Raises:
        UserError: over-use is not known.
    """
    due, right = (
        np.sort(asked.filter(which & pl.col("logit_gap").is_not_null())["logit_gap"].to_numpy())
        for which in (DUE, RIGHT)
    )
    if not len(right):
        rule = "places where a word to avoid stands and is right"
        fix = "mark them with --allowed or --allowed-field"
        raise UserError("a bias can't be fitted to over-use", rule=rule, found="none is marked", fix=fix)
    before = float((right > 0).mean())
    most = math.floor((before + over_use) * len(right) + 1e-9)
    limit = max(0.0, -right[len(right) - 1 - most]) if most < len(right) else math.inf
    bias = min(float(limit), _enough(due))
    told = {"bias": bias, "over_use_before": before, "over_use": float((right + bias > 0).mean())}
    return told | {
        "success_before": float((due > 0).mean()) if len(due) else None,
        "success": float((due + bias > 0).mean()) if len(due) else None,
        "due": len(due), "right_avoid": len(right),
    }  # fmt: skip


def _enough(due: Any) -> float:
    """The bias at which every wanted word leads: more would change nothing."""
    return max(0.0, float(np.nextafter(-due[0], math.inf))) if len(due) else 0.0


def avoided(asked: pl.DataFrame, texts: Mapping[str, tuple[DataSource, PlaceFinder]]) -> list[tuple[int, ...]]:
    """Return the tokens of the words to avoid at places, as far as the one that tells both words apart.

    Args:
        asked: places at which the model was asked.
        texts: name of a text -> its rows, and what turns them into token ids.

    Returns:
        Each sequence once, ascending.
    """
    found: set[tuple[int, ...]] = set()
    for (name,), own in asked.filter(_KNOWN).partition_by("data", as_dict=True).items():
        source, finder = texts[str(name)]
        found |= {(row["avoid_id"],) for row in own.filter(pl.col("offset") == pl.col("at")).to_dicts()}
        longer = own.filter(pl.col("offset") > pl.col("at")).to_dicts()
        found |= {
            (*ids[pick["at"] : pick["offset"]], pick["avoid_id"])
            for pick, ids, _ in read_again(longer, source, finder.example)
        }
    return sorted(found)


def repeated(
    places: pl.DataFrame, times: int, source: DataSource, finder: PlaceFinder, limit: int | None
) -> tuple[list[Any], set[int]]:
    """Return rows, those in which a wanted word stands several times.

    Args:
        places: of the data.
        times: how often such a row stands there.
        source: the data.
        finder: tells which of its rows are malformed.
        limit: rows that count; None for all.

    Returns:
        The rows' values in their order, and the numbers of those that are repeated; malformed ones are left out.
    """
    more = set(places.filter(_WANTED)["row"].to_list())
    rows: list[Any] = []
    for row in source.rows(0, limit):
        if finder.examples([row], strict=False)[0]:
            rows += [_value(row)] * (times if row.number in more else 1)
    return rows, more


def _value(row: Row) -> Any:
    return dict(row.value) if isinstance(row.value, Mapping) else {"text": row.value}


def _line(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise UserError("a row can't be written as JSON", rule="texts, numbers, lists", found=str(error)) from None


def _whole_words(pick: Mapping[str, Any], ids: Sequence[int], _: Any) -> Iterator[Written]:
    before = list(ids[pick["start"] : pick["at"]])
    yield before, f" {pick['word']}", f" {pick['other']}"
    yield before, pick["word"], pick["other"]


def _no_note(_: Mapping[str, Any], where: str) -> str:
    return where


def _refuse_none(found: Any, what: str, why: str) -> None:
    if not found:
        raise UserError(f"no {what} to write", rule="a place of a wanted word", found=why)
