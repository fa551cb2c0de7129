"""Uses of terms under several models: success, over-use and leak at the same places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from borngap.changes.change import change_of, gap_columns, joined, moved
from borngap.changes.compared import Compared, Group, ModelResult
from borngap.changes.sameness import Planned, refuse_other_data, refuse_unequal
from borngap.folder import read_head
from borngap.usage.shares import DUE, RIGHT, once
from borngap.usage.usagefolder import TERMS, Usage, read_usage

_PLACE = ["row", "at", "word", "term"]
_SHOWN = ["use", "avoid", "other", "where", "before", "after", "logit_gap"]
_MAY_DIFFER = frozenset({"leak", "seed"})  # a leak that is not asked for is missing, with the reason
_NOT_ASKED = "not asked for in all of the results"


def compared_terms(folders: Sequence[Path]) -> Compared:
    """Compare how models use the same terms.

    Args:
        folders: at least two TERMS folders, in order.

    Returns:
        All terms together, and each of them, in the order of the terms.

    Raises:
        UserError: a result is not finished, or they are not of the same data, terms, tokenizer, dtype and settings.
    """
    found = [read_usage(folder) for folder in folders]
    sides = tuple(map(side_of, folders))
    refuse_unequal([Planned(side.folder, _flat(side.plan)) for side in sides], _MAY_DIFFER)
    tables = [usage.asked for usage in found]
    due, right = (_joined(sides, [table.filter(kind) for table in tables]) for kind in (DUE, RIGHT))
    leak = _leaks(found)
    whole = _whole(sides, due, right, leak)
    groups = tuple(_term(sides, index, due, right, leak) for index in range(len(sides[0].told["terms"])))
    return Compared("terms", sides, whole, groups, due, right if len(right) else None)


def side_of(folder: Path) -> ModelResult:
    """Return one TERMS folder's plan and numbers."""
    head, told = read_head(folder, TERMS), read_usage(folder).summary
    return ModelResult(folder, str(told["model"]["name"]), head["plan"], head["environment"], told)


def _flat(plan: Mapping[str, Any]) -> dict[str, Any]:
    """A plan, with what it says of the text in which the model is asked; where terms stand in a file is no matter."""
    *_, text = plan["texts"].values()
    terms = [{name: value for name, value in term.items() if name != "where"} for term in plan["terms"]]
    return {name: value for name, value in plan.items() if name != "texts"} | {"terms": terms} | text


def _joined(sides: Sequence[ModelResult], tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    kept = [table.select(*_PLACE, *_SHOWN) for table in tables]
    for side, table in zip(sides[1:], kept[1:], strict=True):
        same = [*_PLACE, "before", "after"]
        other = kept[0].join(table, on=same, how="anti")
        if len(other) or len(table) != len(kept[0]):
            where = other["where"][0] if len(other) else table.join(kept[0], on=same, how="anti")["where"][0]
            refuse_other_data(where, sides[0].folder, side.folder)
    return joined(kept, _PLACE).with_columns(moved(len(sides)).alias("state"))


def _leaks(found: Sequence[Usage]) -> pl.DataFrame | None:
    """The continuations of all models, one row a row that they wrote on from; None where one did not."""
    written = [usage.continuations for usage in found]
    tables = [table for table in written if table is not None]
    if len(tables) < len(written):
        return None
    wrote = [table.select("row", pl.col("terms").alias(f"terms_{i}")) for i, table in enumerate(tables)]
    whole = wrote[0]
    for table in wrote[1:]:
        whole = whole.join(table, on="row", how="inner", maintain_order="left")
    return whole


def _whole(sides: Sequence[ModelResult], due: pl.DataFrame, right: pl.DataFrame, leak: pl.DataFrame | None) -> Group:
    columns = gap_columns(len(sides))
    told = sides[0].told["all"]["notes"]
    leaked = None if leak is None else _leaked(leak, [pl.col(f"terms_{i}").list.len() > 0 for i in range(len(sides))])
    return _group(
        (None, None), once(due, pl.col(columns).min()), once(right, pl.col(columns).max()), leaked, sides, told
    )


def _term(
    sides: Sequence[ModelResult], index: int, due: pl.DataFrame, right: pl.DataFrame, leak: pl.DataFrame | None
) -> Group:
    term = sides[0].told["terms"][index]
    own = [table.filter(pl.col("term") == index) for table in (due, right)]
    leaked = (
        None if leak is None else _leaked(leak, [pl.col(f"terms_{i}").list.contains(index) for i in range(len(sides))])
    )
    return _group((term["use"], term["avoid"]), own[0], own[1], leaked, sides, term["notes"])


def _leaked(leak: pl.DataFrame, holds: Sequence[pl.Expr]) -> pl.DataFrame:
    """Continuations as places that hold where there is a word to avoid."""
    names = gap_columns(len(holds))
    return leak.select("row", *(hold.cast(pl.Float64).alias(name) for name, hold in zip(names, holds, strict=True)))


def _group(
    words: tuple[str | None, str | None],
    due: pl.DataFrame,
    right: pl.DataFrame,
    leak: pl.DataFrame | None,
    sides: Sequence[ModelResult],
    told: Mapping[str, str],
) -> Group:
    models, seed = len(sides), int(sides[0].told["seed"])
    why = {name: told[name] for name in ("success", "over_use") if name in told}
    why |= {"leak": _NOT_ASKED} if leak is None else {}
    return Group(
        *words, change_of(due, models, seed), over_use=change_of(right, models, seed) if len(right) else None,
        leak=None if leak is None else change_of(leak, models, seed), why=why,
    )  # fmt: skip
