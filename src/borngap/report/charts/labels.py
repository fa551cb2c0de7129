"""Where names stand beside the dots of a chart: by their order, as long as they meet neither a name nor a dot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

MARGIN = 30  # pixels between the frame and the outermost dots, where a name may stand
ROOM = 14  # pixels from a dot's middle to its name: more than the radius of the largest dot
_SIZE = (420, 300)  # pixels of the chart; wider ones have more room still
_LETTER = (6.2, 13)  # pixels
_DOT = 6.0  # pixels around a dot's middle that stay free
Box = tuple[float, float, float, float]  # left, top, right, bottom


def placed(dots: Sequence[tuple[float, float]], names: Sequence[str]) -> list[str]:
    """Choose sides for names.

    Args:
        dots: horizontal and vertical place of each, in shares of the chart, from the left and from below.
        names: of the dots, the most important ones first; empty for none.

    Returns:
        ``right``, ``left``, ``above``, or an empty text where a name has no room.
    """
    middles = [(MARGIN + x * (_SIZE[0] - 2 * MARGIN), MARGIN + (1 - y) * (_SIZE[1] - 2 * MARGIN)) for x, y in dots]
    taken: list[Box] = []
    sides = []
    for number, (middle, name) in enumerate(zip(middles, names, strict=True)):
        others = [_around(dot) for i, dot in enumerate(middles) if i != number and dot != middle]
        free = ((side, box) for side, box in _boxes(middle, name) if _fits(box, taken + others)) if name else iter(())
        side, box = next(free, ("", None))
        sides.append(side)
        taken += [] if box is None else [box]
    return sides


def _boxes(middle: tuple[float, float], name: str) -> Iterator[tuple[str, Box]]:
    x, y = middle
    width, half = len(name) * _LETTER[0], _LETTER[1] / 2
    yield "right", (x + ROOM, y - half, x + ROOM + width, y + half)
    yield "left", (x - ROOM - width, y - half, x - ROOM, y + half)
    yield "above", (x - width / 2, y - ROOM - 2 * half, x + width / 2, y - ROOM)


def _around(dot: tuple[float, float]) -> Box:
    return dot[0] - _DOT, dot[1] - _DOT, dot[0] + _DOT, dot[1] + _DOT


def _fits(box: Box, taken: Sequence[Box]) -> bool:
    inside = box[0] >= 0 and box[1] >= 0 and box[2] <= _SIZE[0] and box[3] <= _SIZE[1]
    return inside and not any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken
    )
