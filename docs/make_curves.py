"""Make the pictures of docs/curves.md, and the line under each, from runs on a bundled model. Run it without arguments.

Runs are kept in site/curves and not run again; pictures go to docs/images/curves. What stands between a mark
``<!-- curve: NAME -->`` and ``<!-- end -->`` is made anew, so that every figure on the page is one of the run shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import borngap
from borngap.judge.trajectory import Trajectory
from borngap.report.charts.charts import PANELS, PHANTOM, Panel
from borngap.report.charts.pictures import Picture, figure_of
from borngap.report.charts.rows import series_rows
from borngap.report.charts.series import series

DOCS = Path(__file__).parent
PAGE, PICTURES, RUNS = DOCS / "curves.md", DOCS / "images" / "curves", DOCS.parent / "site" / "curves"
MODEL = "docs-gpt2-s"
PANEL = {panel.id: panel for panel in (*PANELS, *PHANTOM)}
WORDS = {context.gold.strip(): context for context in reversed(borngap.read_contexts("docs40"))}
LORA = borngap.Training(method="lora", rate=1e-4)
# two rows that contradict each other, and four of other words
REVERSED = replace(WORDS["algorithm"], gold=" method", rival=" algorithm")
MIXED = [WORDS["algorithm"], REVERSED, *(WORDS[word] for word in ("matrix", "network", "mapping", "instance"))]
TOGETHER = replace(LORA, rate=1e-3, joint=True, batch_size=1, shuffle=0, steps=60)

Lines = dict[str, Trajectory]


def trained(contexts: Sequence[borngap.Context], training: borngap.Training) -> list[Trajectory]:
    """The trajectories of one run, kept under a name made of what was trained and how."""
    how = f"{training.method}-{training.learning_rate:g}-{training.schedule}-{training.steps}"
    name = f"{how}-{'-'.join(context.gold.strip() for context in contexts)}"
    run = borngap.finetune(borngap.load(MODEL), contexts, training, RUNS / name)
    return [run.trajectory(index) for index in range(len(contexts))]


def alone(word: str, **settings: object) -> Trajectory:
    """One word trained alone with LoRA."""
    return trained([WORDS[word]], replace(LORA, **settings))[0]


def together(*words: str) -> Lines:
    """Words of the run in which six rows are trained together."""
    paths = dict(zip((context.gold.strip() for context in MIXED), trained(MIXED, TOGETHER), strict=True))
    return {word: paths[word] for word in words}


def went(path: Trajectory, column: str) -> str:
    """From where to where a column went."""
    values = path.values[column]
    return f"{values[0]:.3g} to {values[-1]:.3g}".replace("-", "−")


def turns(path: Trajectory) -> int:
    """How often the order of gold and rival changed."""
    ahead = [gap > 0 for gap in path.values["logit_gap"]]
    return sum(a != b for a, b in pairwise(ahead))


@dataclass(frozen=True)
class Curve:
    """One picture: lines by name, panels by id, and the line under it.

    Attributes:
        lines: makes the trajectories; one gives the panels of a run, several are drawn over each other.
        panels: what is drawn.
        told: the line under it.
    """

    lines: Callable[[], Lines]
    panels: tuple[str, ...]
    told: Callable[[Lines], str]

    def draw(self) -> tuple[Picture, str]:
        """The picture and its line."""
        lines = self.lines()
        panels: list[Panel] = [PANEL[name] for name in self.panels]
        if len(lines) == 1:
            (path,) = lines.values()
            flip = path.flip_step("rank")
            marks = [] if flip is None else [{"kind": "flip", "step": flip, "text": f"flip {flip}"}]
            return figure_of(panels, {"series": rows_of(path), "marks": marks}, None), self.told(lines)
        rows = [
            {"step": each[0]["step"]} | {f"{key}_{i}": row[key] for i, row in enumerate(each) for key in row}
            for each in zip(*map(rows_of, lines.values()), strict=True)
        ]
        return figure_of(panels, {"series": rows, "marks": []}, None, list(lines)), self.told(lines)


def rows_of(path: Trajectory) -> list[dict[str, float]]:
    """One row a step."""
    return series_rows(series(path, len(path.steps)))


def ends(told: str) -> Callable[[Lines], str]:
    """A line that says where loss, logit gap and Born gap of the only trajectory went."""

    def of(lines: Lines) -> str:
        (path,) = lines.values()
        parts = ("cross_entropy", "loss", " nat"), ("logit_gap", "logit gap", " nat"), ("born_gap", "Born gap", "")
        return f"{told}: {', '.join(f'{name} {went(path, column)}{unit}' for column, name, unit in parts)}."

    return of


CURVES = {
    "unchanged": Curve(
        lambda: {"": alone("throw")}, ("cross_entropy", "probability"),
        ends("*throw* against *raise*, LoRA at 1e-4"),
    ),
    "lora": Curve(
        lambda: {f"LoRA at {rate}": alone("network", rate=float(rate)) for rate in ("1e-4", "1e-3", "1e-2")},
        ("logit_gap", "cross_entropy"),
        lambda lines: "*network* against *graph*, logit gap: " + ", ".join(
            f"{name} {went(path, 'logit_gap')} nat" for name, path in lines.items()) + ".",
    ),
    "one-step": Curve(
        lambda: {"": alone("matrix", rate=1e-2)}, ("probability", "born_gap"),
        lambda lines: f"*matrix* against *array*, LoRA at 1e-2: the largest step of the Born gap is "
        f"{lines[''].jump.ratio:.3g} times the mean one.",
    ),
    "at-once": Curve(
        lambda: {"": alone("given", rate=3e-4)}, ("probability", "logit_gap"),
        ends("*given* against *provided*, LoRA at 3e-4"),
    ),
    "back": Curve(
        lambda: together("algorithm"), ("logit_gap", "cross_entropy"),
        lambda lines: f"*algorithm* against *method*, six rows trained together, LoRA at 1e-3: the lead changes "
        f"{turns(lines['algorithm'])} times, loss {went(lines['algorithm'], 'cross_entropy')} nat.",
    ),
    "some": Curve(
        lambda: together("matrix", "mapping", "network"), ("logit_gap", "cross_entropy"),
        lambda lines: "The same run, logit gap: " + ", ".join(
            f"*{name}* {went(path, 'logit_gap')} nat" for name, path in lines.items()) + ".",
    ),
    "falls": Curve(
        lambda: {"": alone("mapping")}, ("cross_entropy", "signal_drag"),
        ends("*mapping* against *dictionary*, LoRA at 1e-4"),
    ),
    "schedule": Curve(
        lambda: {name: alone("classes", schedule=name) for name in ("constant", "linear")},
        ("logit_gap", "cross_entropy"),
        lambda lines: "*classes* against *types*, LoRA at 1e-4, logit gap: " + ", ".join(
            f"{name} {went(path, 'logit_gap')} nat" for name, path in lines.items()) + ".",
    ),
    "disagree": Curve(
        lambda: {"": alone("deleted")}, ("logit_gap", "born_gap"),
        lambda lines: f"*deleted* against *removed*, LoRA at 1e-4: by the Born gap ahead from step "
        f"{lines[''].flip_step('born')}, by the logit gap never within the run.",
    ),
}  # fmt: skip


def main() -> None:
    """Draw all pictures, and fill the page."""
    page = PAGE.read_text(encoding="utf-8")
    for name, curve in CURVES.items():
        picture, told = curve.draw()
        PICTURES.mkdir(parents=True, exist_ok=True)
        picture.save(PICTURES / f"{name}.svg")
        begin, end = f"<!-- curve: {name} -->", "<!-- end -->"
        made = f"{begin}\n![{told.replace('*', '')}](images/curves/{name}.svg)\n\n{told}\n{end}"
        page, count = re.subn(f"{begin}.*?{end}", lambda _, made=made: made, page, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"docs/curves.md has {count} marks for {name}")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
