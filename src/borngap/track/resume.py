"""Going on from a checkpoint: a run must watch the contexts that it began with, in the way that it began."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from borngap.context import Context, Target
from borngap.errors import UserError

_NAMED_DIFFERENCES = 3  # differences that a message names
_SHOWN_END = 30  # characters of a prompt's end


def stored_targets(targets: Sequence[Target]) -> list[dict[str, Any]]:
    """Return targets as a checkpoint keeps them, JSON-ready."""
    return [
        {
            "context": target.context.to_json(),
            "ids": list(target.ids),
            "gold_id": target.gold_id,
            "rival_id": target.rival_id,
            "notes": target.notes,
            "fragment": target.fragment,
        }
        for target in targets
    ]


def read_targets(entries: Sequence[Mapping[str, Any]]) -> list[Target]:
    """Return the targets that ``kept`` was given."""
    return [
        Target(**{**entry, "context": Context(**entry["context"]), "ids": tuple(entry["ids"])}) for entry in entries
    ]


def stored_contexts(state: Mapping[str, Any]) -> list[Target]:
    """Return the targets of an interrupted run that are no places of terms."""
    targets = read_targets(state["targets"])
    return targets[: len(targets) - len(state["places"])]


def resumed(targets: Sequence[Target], settings: Mapping[str, Any], state: Mapping[str, Any]) -> list[Target]:
    """Return the targets of an interrupted run, with the rivals that it chose.

    Args:
        targets: the targets now; those without a rival take the one of the interrupted run.
        settings: what the numbers depend on.
        state: the tracker's state of the interrupted run, with ``targets``, ``places`` and ``settings``.

    Returns:
        The targets, each with its rival, and behind them those that are places of terms.

    Raises:
        UserError: contexts or settings differ; the message names which.
    """
    there = stored_contexts(state)
    found = [*_other_contexts(there, targets), *_other_settings(state["settings"], settings)]
    if found:
        more = f"; and {len(found) - _NAMED_DIFFERENCES} more" if len(found) > _NAMED_DIFFERENCES else ""
        raise UserError(
            "the checkpoint belongs to a run that watches something else",
            rule="a resumed run goes on with the contexts and settings that it began with",
            found="; ".join(found[:_NAMED_DIFFERENCES]) + more,
            fix="give those of the run that is resumed, or begin without its checkpoint",
        )
    return read_targets(state["targets"])


def _other_contexts(there: Sequence[Target], now: Sequence[Target]) -> Iterator[str]:
    for number, (old, new) in enumerate(zip_longest(there, now)):
        if old is None or new is None or not _same(old, new):
            yield f"context {number}: {_named(old)} there, {_named(new)} now"


def _same(old: Target, new: Target) -> bool:
    return (old.ids, old.gold_id) == (new.ids, new.gold_id) and new.rival_id in {None, old.rival_id}


def _named(target: Target | None) -> str:
    if target is None:
        return "none"
    rival = "" if target.context.rival is None else f" over {target.context.rival!r}"
    return f"{target.context.gold!r}{rival} after {target.context.prompt[-_SHOWN_END:]!r}"


def _other_settings(there: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(there.keys() | now.keys()):
        if there.get(name) != now.get(name):
            yield f"{name}: {there.get(name)} there, {now.get(name)} now"
