"""Whether results are of the same places: the same data, tokenizer, dtype and settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from borngap.errors import UserError

_MODEL = {"model", "digest"}  # what may differ
_HOW = {"chunk", "strict"}  # decide nothing of what is found
_SHOWN = 6
_SAME_ROWS, _REPEAT = "the same rows in all", "repeat one of them on the data of the other"


@dataclass(frozen=True)
class Planned:
    """A result folder and the plan that it was made by.

    Attributes:
        folder: where it lies.
        plan: as its head file has it.
    """

    folder: Path
    plan: Mapping[str, Any]


def refuse_unequal(results: Sequence[Planned], without: frozenset[str] = frozenset()) -> None:
    """Refuse results that differ in more than the model.

    Args:
        results: at least two, their plans flat: what describes the data stands in ``stamp``.
        without: names of settings that may differ, too.

    Raises:
        UserError: data, tokenizer, dtype or settings differ.
    """
    precisions = {str(result.folder): _precision(result.plan) for result in results}
    refuse_mixed_precision(precisions, "results")
    first, *others = results
    for other in others:
        names = sorted((first.plan.keys() | other.plan.keys()) - _MODEL - _HOW - without - {"data"})
        differing = [name for name in names if _plain(first.plan, name) != _plain(other.plan, name)]
        if differing:
            _refuse(first, other, differing)


def refuse_mixed_precision(told: Mapping[str, str], what: str) -> None:
    """Refuse numbers that come from weights of different dtypes.

    Args:
        told: of each folder, what its weights and logits are held in, in words; empty where that is not known.
        what: what is compared, in the plural.

    Raises:
        UserError: they differ.
    """
    known = {name: words for name, words in told.items() if words}
    if len(set(known.values())) > 1:
        found = "; ".join(f"{name}: {words}" for name, words in known.items())
        fix = "repeat one of them with the --dtype of the other"
        raise UserError(f"the {what} are of different precision", rule="one dtype in all", found=found, fix=fix)


def refuse_other_data(where: str, first: Path, other: Path) -> NoReturn:
    """Say that data of equal names and sizes holds other rows.

    Args:
        where: the first place that differs.
        first: a result folder.
        other: another one.

    Raises:
        UserError: always.
    """
    found = f"{where} differs between {first} and {other}"
    raise UserError("the results are of other data", rule=_SAME_ROWS, found=found, fix=_REPEAT)


def _refuse(first: Planned, other: Planned, differing: Sequence[str]) -> None:
    if "stamp" in differing:
        found = "; ".join(f"{result.folder}: {_files(result)}" for result in (first, other))
        raise UserError("the results are of other data", rule=_SAME_ROWS, found=found, fix=_REPEAT)
    if "tokenizer" in differing:
        raise UserError(
            "the results are of other tokenizers", rule="the same tokens and chat template in all",
            found=f"{first.folder} and {other.folder} differ", fix="give the second model the tokenizer of the first",
        )  # fmt: skip
    found = "; ".join(
        f"{name}: {_brief(first.plan, name)} in {first.folder.name}, {_brief(other.plan, name)} in {other.folder.name}"
        for name in differing[:_SHOWN]
    )
    fix = "repeat one of them with the settings of the other"
    raise UserError("the results are of other settings", rule="the same in all but the model", found=found, fix=fix)


def _precision(plan: Mapping[str, Any]) -> str:
    return ", norm and head in ".join(dict.fromkeys(str(plan.get(name)) for name in ("dtype", "measured_in")))


def _plain(plan: Mapping[str, Any], name: str) -> Any:
    """A setting; of data the names and sizes, or the hash, of its parts: a copy has another time."""
    if name != "stamp":
        return plan.get(name)
    return [[Path(str(part[0])).name, *part[1:2]] for part in plan.get(name) or ()]


def _files(result: Planned) -> str:
    parts = _plain(result.plan, "stamp")
    named = ", ".join(
        f"{name} ({size[0]} bytes)" if size and isinstance(size[0], int) else name for name, *size in parts
    )
    return named or str(result.plan.get("data"))


def _brief(plan: Mapping[str, Any], name: str) -> str:
    text = json.dumps(plan.get(name), ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
