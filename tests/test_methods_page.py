"""docs/methods.md: its table is that of the stored searches, its methods are those that there are."""

import json
import re
import sys
from pathlib import Path

from borngap.methods import METHODS
from borngap.optimisers import OPTIMISERS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


def test_the_tables_are_those_of_the_stored_searches(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in ("methods", "optimisers", "lora_ranks", "method_verdicts"):
        sys.modules.pop(name, None)
    import lora_ranks
    import method_verdicts
    import methods
    import optimisers

    assert methods.markdown(ROOT / "docs" / "methods") in PAGE
    stored = ROOT / "docs" / "optimisers"
    assert optimisers.table(json.loads((stored / "docs-gpt2-s.json").read_text(encoding="utf-8"))) in PAGE
    assert lora_ranks.table(json.loads((stored / "ranks.json").read_text(encoding="utf-8"))) in PAGE
    judged = method_verdicts.judged(ROOT / "docs" / "methods", stored / "ranks.json")
    assert method_verdicts.table(judged) in PAGE
    kept = (ROOT / "docs" / "results" / "other-methods.json").read_text(encoding="utf-8")
    assert json.loads(kept)["questions"] == judged, "python benchmarks/method_verdicts.py writes it"
    question = "do bottleneck adapters lower the threshold against LoRA's?"
    verdicts = [
        method_verdicts.verdict(question, ratios) for ratios in ([0.5, 0.6, 0.7], [1.5, 1.6, 1.7], [0.5, 0.6, 2.0])
    ]
    assert verdicts == ["yes", "no", "open"]


def test_every_method_is_listed_with_its_usual_rate():
    assert set(re.findall(r"^\| `([a-z0-9_]+)` \| \S", PAGE, re.MULTILINE)) >= set(OPTIMISERS)
    table = PAGE.split("## The methods")[1].split("## ")[0]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `") and "usual rate" not in line]
    told = {name: float(row[3]) for row in rows for name in re.findall(r"`([a-z0-9+-]+)`", row[1])}
    assert told == {name: facts.rate for name, facts in METHODS.items()}
