"""``borngap demo``: the main job on a bundled model."""

from __future__ import annotations

from typing import Any

from borngap.cli.arguments import Contexts, Model
from borngap.cli.geometry import bulks_of, geometry_table
from borngap.cli.show import console, model_line, number, table, word

_PAIRS = 1_000_000


def demo(model: Model = "docs-gpt2-s", contexts: Contexts = "docs10") -> None:
    """Probe a bundled model: its geometry, ten contexts, and where a near-synonym is ahead of the right word."""
    from borngap.context import read_contexts
    from borngap.hf.load import load, quiet, summary
    from borngap.hf.probe import probe, records

    quiet()
    out = console()
    loaded = load(model)
    info = summary(loaded)
    out.print(model_line(info), soft_wrap=True, markup=False)
    out.print(geometry_table(bulks_of(loaded, _PAIRS, 0)))
    rows = records(probe(loaded.model, loaded.tokenizer, read_contexts(contexts)))
    out.print(_contexts_table(rows))
    out.print()
    for index, row in enumerate(rows, 1):
        out.print(f"{index:>3}  {_sentence(row)}", markup=False, highlight=False, soft_wrap=True)
    out.print(_conclusion(rows), markup=False, highlight=False)
    out.print(f"\nAll observables: borngap probe --model {model} --contexts {contexts}", markup=False, highlight=False)


def _contexts_table(rows: list[dict[str, Any]]) -> Any:
    headings = ["", "gold", "rival", "overlap", "p gold", "p rival", "logit gap", "Born gap", "ahead", "by Born gap"]
    numbers = ("gold_overlap", "gold_probability", "competitor_probability", "logit_gap", "born_gap")
    lines = [
        [
            index,
            word(row["gold"]),
            word(row["competitor"]),
            *(number(row[key], 3) for key in numbers),
            "gold" if row["logit_gap"] > 0 else "rival",
            "gold" if row["born_gap"] > 0 else "rival",
        ]
        for index, row in enumerate(rows, 1)
    ]
    return table("\ncontexts (logit gap in nat)", headings, lines, 3)


def _sentence(row: dict[str, Any]) -> str:
    from borngap.standing import standing

    flag = " [a fragment of the word is measured]" if row["fragment"] else ""
    return f"{row['prompt']} ... {row['gold'].strip()}{flag}\n     {standing(row)}"


def _conclusion(rows: list[dict[str, Any]]) -> str:
    whole = [row for row in rows if not row["fragment"]]
    behind = [row for row in whole if row["logit_gap"] <= 0]
    born = [row for row in whole if row["born_gap"] <= 0]
    differ = sum((row["logit_gap"] > 0) != (row["born_gap"] > 0) for row in whole)
    left_out = f" ({len(rows) - len(whole)} fragments left out)" if len(whole) < len(rows) else ""
    return (
        f"\nOf {len(whole)} contexts{left_out} the rival is ahead in {len(behind)} in probability and in {len(born)} "
        f"by the Born gap; the two disagree in {differ}."
    )
