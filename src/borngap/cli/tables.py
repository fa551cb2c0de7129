"""Tables that fit the terminal: words are never cut; columns without room stand below, the first ones repeated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # rich is imported on first use: it would slow down help
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

_GAP = 2  # blanks between two columns


class Fitted:
    """A table without rules, for rich to print.

    Args:
        title: line above it, or none if empty.
        headings: of the columns.
        rows: cells; all of them are shown as text.
        left: number of columns at the left that are flush left; the others hold numbers and are flush right.
        keys: number of columns at the left that name a row, repeated where the table goes on below.
    """

    def __init__(
        self, title: str, headings: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 1, keys: int = 1
    ) -> None:
        self._title, self._left, self._keys = title, left, keys
        self._columns = [[str(line[i]) for line in (headings, *rows)] for i in range(len(headings))]

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        """Yield as many tables as the width asks for."""
        from rich.text import Text

        if self._title:
            yield Text(self._title, style="bold")
        for number, columns in enumerate(self._parts(options.max_width)):
            if number:
                yield Text()
            yield self._table(columns, options.max_width)

    def _parts(self, width: int) -> list[list[int]]:
        """Columns that stand beside each other: as many as fit without cutting a word."""
        parts: list[list[int]] = [[]]
        for column in range(len(self._columns)):
            if parts[-1] and self._least([*parts[-1], column], width) > width:
                parts.append(self._start(column, width))
            parts[-1].append(column)
        return parts

    def _start(self, column: int, width: int) -> list[int]:
        """Columns that are repeated before one that stands below: as many as it leaves room for."""
        most = min(self._keys, column)
        fitting = (k for k in range(most, 0, -1) if self._least([*range(k), column], width) <= width)
        return list(range(next(fitting, 0)))

    def _least(self, columns: Sequence[int], width: int) -> int:
        return sum(self._narrowest(i, width) + _GAP for i in columns) - _GAP

    def _narrowest(self, column: int, width: int) -> int:
        """Cells that name a row stay on one line where that is short, others may be broken between words."""
        whole = _text_width(self._columns[column])
        return whole if column < self._keys and whole <= width // 2 else _word_width(self._columns[column])

    def _table(self, columns: Sequence[int], width: int) -> Table:
        from rich.table import Table
        from rich.text import Text

        built = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        for i, room in zip(columns, self._widths(columns, width), strict=True):
            heading = Text(self._columns[i][0])
            built.add_column(heading, justify="left" if i < self._left else "right", width=room, overflow="fold")
        for line in range(1, len(self._columns[0])):
            built.add_row(*(Text(self._columns[i][line]) for i in columns))
        return built

    def _widths(self, columns: Sequence[int], width: int) -> list[int]:
        """Natural widths; where they are too many, those with most to give up are made narrower, to their words."""
        least = [self._narrowest(i, width) for i in columns]
        widths = [_text_width(self._columns[i]) for i in columns]
        for _ in range(sum(widths) + _GAP * (len(widths) - 1) - width):
            room = [now - need for now, need in zip(widths, least, strict=True)]
            if not any(room):
                break
            widths[room.index(max(room))] -= 1
        return widths


def _text_width(cells: Sequence[str]) -> int:
    from rich.cells import cell_len

    return max((cell_len(cell) for cell in cells), default=0) or 1


def _word_width(cells: Sequence[str]) -> int:
    return _text_width([word for cell in cells for word in cell.split()])
