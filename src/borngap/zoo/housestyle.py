"""A house style on real prose: rows that keep to it, rows in which the other words are right, and the list of terms.

The prose is that of the docstrings of installed packages which the bundled models were not trained on; nothing is
shipped. In most packages every word that the style avoids is replaced, in the same form (errors -> exceptions); one
package is left as it is: there the other words are right.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from borngap.files import make_folder, write_whole
from borngap.words.inflection import agree, forms
from borngap.zoo.corpus import package_prose

STYLE: tuple[tuple[str, str], ...] = (
    ("argument", "parameter"), ("method", "function"), ("sequence", "list"), ("text", "string"),
    ("folder", "directory"), ("exception", "error"), ("build", "create"),
)  # fmt: skip
"""Use, avoid."""
STYLED = ("huggingface_hub", "altair", "typer", "fsspec")
PLAIN = ("rich", "jinja2")
_HELD_OUT = 0.25


@dataclass(frozen=True)
class HouseStyle:
    """Rows and terms.

    Attributes:
        terms: use and avoid, as ``STYLE``.
        train: rows ``{"text", "package", "allowed"}``; ``allowed`` marks those in which the avoided words are right.
        held_out: further rows of the same packages.
    """

    terms: tuple[tuple[str, str], ...]
    train: tuple[dict[str, object], ...]
    held_out: tuple[dict[str, object], ...]

    def save(self, folder: str | Path) -> dict[str, Path]:
        """Write ``style.csv``, ``train.jsonl`` and ``held-out.jsonl``.

        Args:
            folder: is made where it lacks.

        Returns:
            What was written: ``terms``, ``train``, ``held_out``.
        """
        root = Path(folder)
        make_folder(root)
        style = "".join(f"{use},{avoid}\n" for use, avoid in (("use", "avoid"), *self.terms))
        written = {"terms": ("style.csv", style)}
        written |= {
            part: (name, "".join(f"{json.dumps(row)}\n" for row in getattr(self, part)))
            for part, name in (("train", "train.jsonl"), ("held_out", "held-out.jsonl"))
        }
        for name, text in written.values():
            # what is there already keeps its time: results made from it are gone on with
            if not (root / name).is_file() or (root / name).read_bytes() != text.encode():
                write_whole(root / name, text.encode())
        return {part: root / name for part, (name, _) in written.items()}


def house_style(
    styled: Sequence[str] = STYLED,
    plain: Sequence[str] = PLAIN,
    terms: Sequence[tuple[str, str]] = STYLE,
    seed: int = 0,
) -> HouseStyle:
    """Put a house style into the prose of packages.

    Args:
        styled: packages whose prose gets the style.
        plain: packages that are left as they are.
        terms: use and avoid.
        seed: seeds the order of the rows, and so which are held out.

    Returns:
        Three quarters of the rows to train on, the others held out, both in random order.

    Raises:
        UserError: a package is not installed.
    """
    rows = [*_rows(styled, terms), *_rows(plain, ())]
    random.Random(seed).shuffle(rows)  # noqa: S311  # an order, no secret
    cut = round(len(rows) * (1 - _HELD_OUT))
    return HouseStyle(tuple(terms), tuple(rows[:cut]), tuple(rows[cut:]))


def restyled(text: str, terms: Sequence[tuple[str, str]]) -> str:
    """Return a text with every avoided word, in whatever form, replaced by the same form of the wanted one.

    Args:
        text: any text.
        terms: use and avoid.

    Returns:
        The text; the case of the words is kept, and "an" before a consonant becomes "a" and the other way round.
    """
    for use, avoid in terms:
        text = _any_form(avoid).sub(partial(_replaced, use, avoid), text)
    return text


@cache
def _any_form(word: str) -> re.Pattern[str]:
    spelt = sorted({form for spelt in forms(word).values() for form in spelt}, key=len, reverse=True)
    return re.compile(rf"\b((?:an?) )?({'|'.join(map(re.escape, spelt))})\b", re.IGNORECASE)


def _replaced(use: str, avoid: str, found: re.Match[str]) -> str:
    article, word = found.group(1) or "", agree(found.group(2), avoid, use)
    if article:
        article = article[0] + ("n " if word[0].lower() in "aeiou" else " ")
    return article + word


def _rows(packages: Sequence[str], terms: Sequence[tuple[str, str]]) -> Iterator[dict[str, object]]:
    for package in packages:
        for text in package_prose(package):
            yield {"text": restyled(text, terms), "package": package, "allowed": not terms}
