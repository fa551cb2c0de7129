"""The paper's questions on other methods (its 7.2), judged on the stored searches: the table of docs/methods.md.

    python benchmarks/method_verdicts.py docs/methods docs/optimisers/ranks.json docs/results/other-methods.json

The file is written, and docs/make_results.py takes it into the claims.

Each context's rate over its rate under LoRA (rank 8 on attention), the median over contexts and its 95 % interval by
resampling contexts. The verdict is yes or no where the interval lies wholly on one side of 1, else open; of fewer than
three contexts it is open.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from borngap.files import json_bytes, write_whole
from methods import against, typical

_LOWER, _ROUND, _RANK = (
    "do bottleneck adapters lower the threshold against LoRA's?",
    "does prefix tuning get round the failure, at LoRA's rates?",
    "does LoRA's rank matter at equal alpha over rank (32 over 8)?",
)
_FEWEST = 3


def main() -> None:
    found = judged(Path(sys.argv[1]), Path(sys.argv[2]))
    if len(sys.argv) > 3:
        write_whole(Path(sys.argv[3]), json_bytes({"schema": 1, "questions": found}))
    print(table(found))


def judged(methods: Path, ranks: Path) -> list[dict[str, Any]]:
    """Every question at every model, with its verdict."""
    found = []
    for question, model, ratios in asked(methods, ranks):
        known = typical(ratios)
        told = str(known) if len(ratios) >= _FEWEST else f"{known.middle:.2g}"
        entry = {"question": question, "model": model, "over_lora": told, "n": len(ratios)}
        found.append(entry | {"ratios": ratios, "verdict": verdict(question, ratios)})
    return found


def table(found: Sequence[dict[str, Any]]) -> str:
    """The table of the docs."""
    rows = [["question", "model", "rate over LoRA's (95 %)", "n", "verdict"], ["---"] * 5]
    rows += [[str(entry[key]) for key in ("question", "model", "over_lora", "n", "verdict")] for entry in found]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def asked(methods: Path, ranks: Path) -> Iterator[tuple[str, str, list[float]]]:
    """Yield question, model, and each context's rate over LoRA's."""
    stored = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(methods.glob("*.json"))]
    rates = {(r["model"], r["method"]): [c["rate"] for c in r["bisect"]["contexts"]] for r in stored if "bisect" in r}
    for question, method in ((_LOWER, "adapter"), (_ROUND, "prefix")):
        for model in sorted({model for model, own in rates if own == method}):
            yield question, model, against(rates[model, method], rates[model, "lora"])
    known = json.loads(ranks.read_text(encoding="utf-8"))
    by_rank = {(row["model"], row["rank"]): row["rates"] for row in known if row["targets"] == "attention"}
    for model in sorted({model for model, _ in by_rank}):
        yield _RANK, model, against(by_rank[model, 32], by_rank[model, 8])


def verdict(question: str, ratios: Sequence[float]) -> str:
    """What follows."""
    known = typical(ratios)
    if len(ratios) < _FEWEST or known.low is None or known.high is None or known.low <= 1 <= known.high:
        return "open"
    if question == _RANK:
        return "yes"
    return "yes" if known.high < 1 else "no"


if __name__ == "__main__":
    main()
