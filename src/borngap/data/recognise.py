"""Which layout a data set has: by the first telling row of each of its files, or by the fields that the user names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from borngap.data.layout import ROLES, Layout, known_layout
from borngap.data.rows import DataPart, DataSource, Row, fields_of
from borngap.errors import UserError, did_you_mean

_SHOWN_FIELDS = 20
_FIRST_ROWS = 1024  # rows of a file, one of which tells its layout
_WOULD_DO = (
    'rows like {"text": "..."}, {"prompt": "...", "completion": "..."}, {"messages": [{"role": "user", "content": '
    '"..."}, ...]}, {"chosen": ..., "rejected": ...}, {"instruction": "...", "output": "..."} or {"input_ids": [...]}; '
    "or name the fields: --text-field, --prompt-field with --completion-field, --messages-field"
)


def layout_of(source: DataSource, fields: Mapping[str, str | None]) -> Layout:
    """Recognise the layout of a data set by the first row of each of its files that tells one.

    Args:
        source: the data.
        fields: role -> field name, where the user names one: ``text``, ``prompt``, ``completion``, ``messages``.

    Returns:
        The layout.

    Raises:
        UserError: there are no rows, none can be read, the layout is unknown, or files differ in it.
    """
    chosen = {role: name for role, name in fields.items() if name is not None}
    _check_chosen(chosen)
    layouts: dict[Layout, list[str]] = {}
    unknown = None
    for part in source.parts:
        row, layout = _telling(source, part, chosen)
        if row is None:
            continue
        if layout is None:
            names = list(map(str, fields_of(row.value)))
            unknown = unknown or (f"the fields {_listed(names)} in {row.where}", names)
        else:
            layouts.setdefault(layout, []).append(part.name)
    if unknown is not None:
        raise UserError(f"unknown layout in {source.name}", found=unknown[0], fix=_cure(unknown[1], chosen))
    if not layouts:
        raise UserError(f"no rows in {source.name}", rule="at least one row that can be read", found=_first(source))
    if len(layouts) > 1:
        found = "; ".join(f"{layout} in {_listed(names[:3])}" for layout, names in layouts.items())
        raise UserError(
            f"{source.name} holds files of different layouts", rule="one layout", found=found, fix="scan them apart"
        )
    return next(iter(layouts))


def _telling(source: DataSource, part: DataPart, chosen: Mapping[str, str]) -> tuple[Row | None, Layout | None]:
    """The first row of a part that tells a layout, with it; else the first that can be read, if there is one."""
    first = None
    for row in DataSource(source.name, (part,)).rows(stop=_FIRST_ROWS):
        if row.error is None:
            layout = _layout(row.value, chosen)
            if layout is not None:
                return row, layout
            first = first or row
    return first, None


def _cure(names: Sequence[str], chosen: Mapping[str, str]) -> str:
    """What would do instead of rows with these fields."""
    if "gold" in names and not chosen:
        return "these are contexts, not a data set: `borngap probe --contexts FILE` measures them"
    wrong = [name for name in chosen.values() if name not in names]
    if wrong:
        near = did_you_mean(wrong[0], names)
        return f"there is no field {wrong[0]!r}" + (f": {near}" if near else f"; there are {_listed(names)}")
    return _WOULD_DO


def _first(source: DataSource) -> str:
    row = next(source.rows(), None)
    return "an empty file" if row is None else f"{row.where}: {row.error}"


def _check_chosen(chosen: Mapping[str, str]) -> None:
    if chosen and set(chosen) not in ({"text"}, {"prompt", "completion"}, {"messages"}):
        rule = "a text field, or a prompt and a completion field, or a messages field"
        raise UserError("these fields make no layout", rule=rule, found=_listed(chosen))


def _layout(value: Any, chosen: Mapping[str, str]) -> Layout | None:
    if not chosen:
        return known_layout(value)
    kind = next(kind for kind, roles in ROLES.items() if set(roles) == set(chosen))
    fits = isinstance(value, dict) and set(chosen.values()) <= set(value)
    return Layout(kind, tuple(chosen.items())) if fits else None


def _listed(names: Any) -> str:
    shown = list(map(str, names))
    return ", ".join([*shown[:_SHOWN_FIELDS], *(["..."] if len(shown) > _SHOWN_FIELDS else [])]) or "none"
