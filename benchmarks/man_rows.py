"""Rows of this machine's man pages in a style of ten words: data that no constant of a forecast was chosen on.

    python benchmarks/man_rows.py FOLDER   # train.jsonl, held-out.jsonl, style.csv
    python benchmarks/whole_runs.py --runs docs-gpt2-s:full:2e-4:linear,docs-llama:lora:4e-3:cosine --packing \
        --data FOLDER/train.jsonl --watch FOLDER/held-out.jsonl --terms FOLDER/style.csv --allowed-field allowed

Paragraphs of 120 to 600 characters with one of the words, as troff has them, marks and all taken out crudely; one of
seven pages keeps its own words, which are right there (`allowed`). Pages differ from machine to machine.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PAGES = Path("/usr/share/man")
STYLE = {
    "option": "setting", "directory": "folder", "remove": "erase", "user": "operator", "display": "show",
    "command": "program", "specify": "supply", "previous": "earlier", "start": "begin", "allow": "permit",
}  # fmt: skip
_FORMS = {
    "options": "settings", "directories": "folders", "removes": "erases", "removed": "erased", "users": "operators",
    "displays": "shows", "displayed": "shown", "commands": "programs", "specifies": "supplies",
    "specified": "supplied", "starts": "begins", "started": "begun", "allows": "permits", "allowed": "permitted",
}  # fmt: skip
_WORDS = STYLE | _FORMS
_FINDS = re.compile(rf"\b({'|'.join(sorted(_WORDS, key=len, reverse=True))})\b", re.IGNORECASE)
_MARKS = re.compile(r"\\f[A-Z(]{1,3}|\\&|\\s[-+]?\d")
_TRAIN, _HELD_OUT, _SPARED = 1400, 300, 0.15


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(7)
    rows = [row for page in sorted(PAGES.glob("man[1578]/*.gz")) for row in rows_of(page, chance.random() < _SPARED)]
    chance.shuffle(rows)
    unlike = list({row["text"][:60]: row for row in rows}.values())
    for name, part in (("train", unlike[:_TRAIN]), ("held-out", unlike[_TRAIN : _TRAIN + _HELD_OUT])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    with (folder / "style.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("use", "avoid"), *((use, avoid) for avoid, use in STYLE.items())])
    print(f"{len(unlike)} paragraphs of {len({row['page'] for row in unlike})} pages")


def rows_of(page: Path, is_spared: bool) -> Iterator[dict]:
    """The paragraphs of a page in which one of the words stands."""
    with gzip.open(page, "rt", errors="ignore") as file:
        troff = file.read()
    for text in paragraphs(troff):
        if 120 <= len(text) <= 600 and _FINDS.search(text):
            yield {"text": text if is_spared else _FINDS.sub(put, text), "allowed": is_spared, "page": page.name}


def paragraphs(troff: str) -> Iterator[str]:
    """Text between lines of marks and empty lines."""
    lines: list[str] = []
    for line in [*troff.split("\n"), ""]:
        plain = "" if line.startswith((".", "'")) else _MARKS.sub("", line).replace("\\-", "-").strip()
        if plain:
            lines.append(plain)
        elif lines:
            yield " ".join(lines)
            lines = []


def put(found: re.Match[str]) -> str:
    word = found.group()
    return _WORDS[word.lower()].capitalize() if word[0].isupper() else _WORDS[word.lower()]


if __name__ == "__main__":
    main()
