"""Carrying out a reproduction for one model: base, critical rates, runs, ends; what is stored is not done again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from borngap.choices import Criterion
from borngap.context import Context
from borngap.critical.record import By
from borngap.experiments.arms import ARMS, FORECAST, MAIN, Arm, plan_of, rates_of, theta_of
from borngap.experiments.folder import Plan, done, entries, home, in_units, is_whole, kept
from borngap.experiments.measure import base_of, ends_of, settings_of
from borngap.experiments.ratefinding import RateFinder
from borngap.files import checked
from borngap.methods import Method
from borngap.model.load import quiet
from borngap.sweep.plan import SweepPlan
from borngap.sweep.run import run_sweep
from borngap.sweep.sweepfolder import PARTS, SWEEP_FILE, read_sweep

# what is done, of how many, and in words
OnProgress = Callable[[str, str, int, int], None]
_ENOUGH = 3
CHECKED: tuple[Method, ...] = ("lora", "full")  # of which forecasts are held against runs


@dataclass(frozen=True)
class Search:
    """A search for critical rates: how, of what, by which criterion."""

    method: Method
    criterion: Criterion
    by: By

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.method}-{self.criterion}-{self.by}"

    @property
    def words(self) -> str:
        """What it is, for whoever watches."""
        return f"{self.method}, {self.criterion}, {self.by}"


def searches(plan: Plan) -> list[Search]:
    """Return the searches that a plan needs: those without training first, since rates are chosen by them."""
    methods = list(dict.fromkeys(ARMS[name].scale for name in plan.scope.arms))
    found = [Search(m, criterion, "collocation") for m in methods for criterion in _criteria(m, plan)]
    found += [search for search in checked_by_runs(plan) if search not in found]
    if plan.scope.bisect:
        # by rank, full fine-tuning takes as long again and adds no claim of its own
        found += [Search(m, "born", "bisect") for m in methods if m != "readout-only"]
        found += [Search("lora", "rank", "bisect")] if "lora" in methods else []
    return found


def checked_by_runs(plan: Plan) -> list[Search]:
    """Return the searches whose forecasts are held against two real runs each."""
    return [Search(method, "rank", "collocation") for method in CHECKED] if plan.scope.brackets else []


def reproduce_model(
    folder: Path, model: str, plan: Plan, report: OnProgress = lambda *_: None, device: str = "cpu"
) -> None:
    """Do and store everything of one model that is not stored yet.

    Args:
        folder: the reproduction.
        model: bundled name, local folder, or hub id.
        plan: the plan.
        report: called with the model, what is being done, how much of it is done, and of how many.
        device: torch device.
    """
    quiet()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # runs are bit-identical at one thread count only; models share the processors
    try:
        _reproduce(folder, model, plan, report, device)
    finally:
        torch.set_num_threads(threads)


def _reproduce(folder: Path, model: str, plan: Plan, report: OnProgress, device: str) -> None:
    there = home(folder, model)
    report(model, "base model", 0, 1)
    base = kept(there / "base.json", lambda: base_of(model, plan.contexts, plan.scope, device))
    contexts = [plan.contexts[row["context"]] for row in base["contexts"]]
    work = _Work(there, model, contexts, plan, tuple(base["lora_targets"]), report, device)
    for method in _cheapest_first(plan):
        for search in (found for found in searches(plan) if found.method == method):
            work.search(search)
        for search in (found for found in checked_by_runs(plan) if found.method == method):
            work.brackets(search)
        for arm, planned in sweeps(there, model, plan, base, method):
            _swept(there / "sweeps" / arm.id, model, arm, planned, report, device)
    for arm, planned in sweeps(there, model, plan, base):
        if arm.id in MAIN and plan.scope.ends:
            _ends(there, model, planned, arm, rates(there, plan, base, arm), report, device)


def _cheapest_first(plan: Plan) -> list[Method]:
    """LoRA first: stacked, its runs take a fraction of the others', and a stop leaves a whole method behind."""
    methods = dict.fromkeys(search.method for search in searches(plan))
    return sorted(methods, key=lambda method: method != "lora")


def _swept(folder: Path, model: str, arm: Arm, planned: SweepPlan, report: OnProgress, device: str) -> None:
    """Do what is left of an arm's runs."""
    if not is_complete(folder):
        run_sweep(
            planned,
            folder,
            workers=1,  # models share the processors already
            device=device,
            on_run=lambda done, total: report(model, arm.title, done, total),
        )


def undone(folder: Path, model: str, plan: Plan) -> list[str]:
    """Return what of a model is not stored yet, in words; nothing is loaded to tell.

    Args:
        folder: the reproduction.
        model: as the plan names it.
        plan: the plan.

    Returns:
        One text a thing; none where everything is stored.
    """
    there = home(folder, model)
    if not (there / "base.json").is_file():
        return ["everything"]
    lacking = [search for search in searches(plan) if not (there / "critical" / f"{search.name}.json").is_file()]
    waiting = {search.method for search in lacking}
    brackets = [there / "brackets" / f"{s.method}.json" for s in checked_by_runs(plan) if s.method not in waiting]
    base = checked(there / "base.json")
    arms = [
        (arm, len(planned.runs), rates(there, plan, base, arm).values())
        for arm, planned in sweeps(there, model, plan, base)
        if arm.scale not in waiting
    ]
    return [
        *(
            f"forecast rates against runs ({path.stem}: {len(done(path))} of {len(base['contexts'])} are done)"
            for path in brackets
            if not path.is_file()
        ),
        *(_progress(there, arm, runs) for arm, runs, _ in arms if not is_complete(there / "sweeps" / arm.id)),
        *(f"forecast ends ({arm.title})" for arm, _, named in arms if _lacks_ends(there, plan, arm, named)),
        *(f"critical rates ({search.words})" for search in lacking),
        *(["what rests on them"] if lacking else []),
    ]


def _progress(there: Path, arm: Arm, runs: int) -> str:
    path = there / "sweeps" / arm.id
    finished = len(read_sweep(path).finished) if (path / SWEEP_FILE).is_file() else 0
    return f"{arm.title} ({finished} of {runs} runs are done)"


def _lacks_ends(there: Path, plan: Plan, arm: Arm, named: Collection[str]) -> bool:
    wanted = plan.scope.ends and arm.id in MAIN and FORECAST in named
    return wanted and not (there / "ends" / f"{arm.id}.json").is_file()


def is_complete(folder: Path) -> bool:
    """Return whether a SWEEP holds all its runs, merged; the model need not be loaded to tell."""
    if not (folder / SWEEP_FILE).is_file() or any(folder.glob(PARTS)):
        return False
    sweep = read_sweep(folder)
    return len(sweep.finished) == sweep.planned


def sweeps(
    there: Path, model: str, plan: Plan, base: dict[str, Any], method: Method | None = None
) -> Iterator[tuple[Arm, SweepPlan]]:
    """Yield the arms of a model, all or a method's, with their plans, from what is stored of it."""
    contexts = [plan.contexts[row["context"]] for row in base["contexts"]]
    for name in plan.scope.arms:
        arm = ARMS[name]
        if (arm.untied and base["model"]["tied"]) or method not in (None, arm.scale):
            continue
        chosen = list(rates(there, plan, base, arm))
        planned = plan_of(arm, plan.scope, model, contexts, chosen, tuple(base["lora_targets"]))
        if planned is not None:
            yield arm, planned


def rates(there: Path, plan: Plan, base: dict[str, Any], arm: Arm) -> dict[float, str]:
    """Return the rates of an arm with their names, from what is stored of a model."""
    theta, _ = theta_by_collocation(there, arm.scale)
    overlaps = [row["gold_overlap"] for row in base["contexts"]]
    return rates_of(arm, plan.scope, theta, sum(overlaps) / len(overlaps))


def theta_by_collocation(there: Path, method: Method) -> tuple[float | None, str]:
    """Return a model's theta* by collocation, and the criterion that it is by.

    By the Born gap, as in the paper; by rank where fewer than three contexts start with the rival ahead by the Born
    gap and more do by rank.

    Args:
        there: the model's folder.
        method: what is trained.

    Returns:
        theta* and the criterion; None where no context has a critical rate.
    """
    found = {}
    for criterion in ("born", "rank"):
        path = there / "critical" / f"{method}-{criterion}-collocation.json"
        rows = entries([path]) if path.is_file() else []
        found[criterion] = [
            row["critical_rate"] * row["gold_overlap"] for row in rows if row["critical_rate"] is not None
        ]
    best = max(found, key=lambda criterion: min(len(found[criterion]), _ENOUGH))
    return theta_of(found[best]), best


def _criteria(method: Method, plan: Plan) -> tuple[Criterion, ...]:
    return ("born",) if method == "readout-only" else plan.scope.criteria


@dataclass(frozen=True)
class _Work:
    """What searches of one model have in common: where they are stored, of what, and who is told."""

    there: Path
    model: str
    contexts: list[Context]
    plan: Plan
    targets: tuple[str, ...]
    report: OnProgress
    device: str

    def search(self, search: Search) -> None:
        """Store the critical rates of a search."""
        path = self.there / "critical" / f"{search.name}.json"
        if not is_whole(path):
            finder, seen = self._begun(search, f"critical rates: {search.words}")
            in_units(path, finder.units(search.by), partial(finder.rates, search.by), seen)

    def brackets(self, search: Search) -> None:
        """Store how the forecasts of a search compare with real runs."""
        path = self.there / "brackets" / f"{search.method}.json"
        if not is_whole(path):
            found = entries([self.there / "critical" / f"{search.name}.json"])
            forecasts = {entry["context"]: entry for entry in found if entry["status"] == "ok"}
            finder, seen = self._begun(search, f"forecast rates against runs: {search.method}")
            in_units(path, finder.units("bisect"), lambda unit, _: finder.brackets(forecasts, unit), seen)

    def _begun(self, search: Search, words: str) -> tuple[RateFinder, Callable[[int], None]]:
        self.report(self.model, words, 0, len(self.contexts))
        settings = settings_of(search.method, self.plan.scope, search.criterion, self.targets)
        finder = RateFinder(self.model, self.contexts, settings, self.device)
        return finder, lambda done: self.report(self.model, words, done, len(self.contexts))


def _ends(
    there: Path, model: str, planned: SweepPlan, arm: Arm, named: dict[float, str], report: OnProgress, device: str
) -> None:
    """Forecast the ends of the runs at a field near the threshold: there they could go either way."""
    for rate, name in named.items():
        if name == FORECAST:
            report(model, f"forecast ends: {arm.title}", 0, 1)
            settings = replace(planned.training, rate=rate)
            path = there / "ends" / f"{arm.id}.json"
            kept(path, lambda: {"entries": ends_of(model, planned.contexts, settings, device)})  # noqa: B023
