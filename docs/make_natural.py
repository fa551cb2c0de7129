"""Choose natural100: contexts out of the prose of public packages, with a real synonym in front.

``python docs/make_natural.py candidates SCAN ROWS >> docs/natural/candidates.jsonl`` takes what a scan of rows
(``{"text": ..., "package": ...}``, from ``borngap zoo prose``) with ``--relations synonym`` found. Each candidate was
then looked at in its sentence, by a language model, and has ``dropped``: null, or why the two words are not the same
there. ``python docs/make_natural.py choose MODEL`` writes the contexts; the one they were made with is SmolLM2.

1. A candidate is a target that the scan has with its synonym ahead; both words of lower-case letters, three at least,
   and no function words. Its prompt begins with its sentence and has 5 to 40 words. Of a pair of words at most two.
2. Those that were dropped are left out.
3. The rest is asked once more, as it stands: ``borngap.zoo.choose.keep``, rival ahead, 100 at most, pairs in turn.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CANDIDATES = ROOT / "docs" / "natural" / "candidates.jsonl"
TARGET = ROOT / "src" / "borngap" / "contexts" / "natural100.jsonl"
COUNT, A_PAIR = 100, 2
LEAST, MOST = 5, 40  # words of a prompt
_WORD = re.compile(r" [a-z]{3,}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|\n")


def sentence_of(text: str) -> str:
    """Return the end of a text from the start of its last sentence.

    Example:
        >>> sentence_of("It ends. Then the next one")
        'Then the next one'
    """
    return _SENTENCE.split(text)[-1]


def candidates(positions: list[dict[str, Any]], rows: list[dict[str, str]], tokenizer: Any) -> Iterator[dict[str, Any]]:
    """Yield the candidates of a scan.

    Args:
        positions: of the scan, in the order of the data.
        rows: what was scanned: ``text``, ``package``.
        tokenizer: of the model that scanned.

    Yields:
        ``prompt``, ``gold``, ``rival``, ``note`` (the package), ``after`` (what follows), ``dropped`` (null).
    """
    from borngap.words.closed import FUNCTION_WORDS

    seen: Counter[tuple[str, str]] = Counter()
    for place in positions:
        pair = (place["gold"], place["rival"])
        plain = all(_WORD.fullmatch(word) and word.strip() not in FUNCTION_WORDS for word in pair)
        if place["logit_gap"] >= 0 or not plain or seen[pair] == A_PAIR:
            continue
        ids = tokenizer(rows[place["row"]]["text"])["input_ids"]
        prompt = sentence_of(tokenizer.decode(ids[: place["offset"]]))
        if LEAST <= len(prompt.split()) <= MOST:
            seen[pair] += 1
            after = tokenizer.decode(ids[place["offset"] + 1 : place["offset"] + 9]).split("\n")[0]
            head = {"prompt": prompt, "gold": pair[0], "rival": pair[1], "note": rows[place["row"]]["package"]}
            yield head | {"after": after, "dropped": None}


def main() -> None:
    """Do what the command line says."""
    import polars as pl

    from borngap.context import Context, write_contexts
    from borngap.model.load import load
    from borngap.zoo.choose import keep

    if sys.argv[1] == "candidates":
        folder, rows = Path(sys.argv[2]), Path(sys.argv[3]).read_text(encoding="utf-8").splitlines()
        found = pl.read_parquet(folder / "positions.parquet").sort("row", "offset").to_dicts()
        loaded = load(json.loads((folder / "scan.json").read_text(encoding="utf-8"))["model"]["name"])
        for candidate in candidates(found, [json.loads(row) for row in rows], loaded.tokenizer):
            print(json.dumps(candidate, ensure_ascii=False))
        return
    judged = [json.loads(line) for line in CANDIDATES.read_text(encoding="utf-8").splitlines()]
    right = [row for row in judged if row["dropped"] is None]
    contexts = [Context(**{key: row[key] for key in ("prompt", "gold", "rival", "note")}) for row in right]
    kept, _ = keep(load(sys.argv[2]), contexts, "rival-ahead", COUNT)
    TARGET.write_text(write_contexts([contexts[i] for i in kept]), encoding="utf-8")
    print(f"{len(judged)} candidates, {len(right)} in which both words mean the same, {len(kept)} kept")


if __name__ == "__main__":
    main()
