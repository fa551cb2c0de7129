"""``borngap forecast --data``: what a run on a data set will do to the watched words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from borngap.cli.arguments import ModelPlace
from borngap.cli.progress import Progress, spoken
from borngap.cli.show import fitted_table, print_json, print_table, say
from borngap.errors import UserError
from borngap.methods import Method
from borngap.pilot.settings import Piloting, leads_at_half
from borngap.rates import read_passes, read_rates
from borngap.report.text import MISSING
from borngap.shown import visible
from borngap.training import Training, refuse_penalty

if TYPE_CHECKING:
    from borngap.pilot.pilots import RunProgress
    from borngap.pilot.ray import RayPilots

_TERMS, _PLACES = 40, 5  # rows of the table, places of each kind
_KINDS = {
    "flips": "will come ahead",
    "stays behind": "will stay behind",
    "lost": "will be lost",
    "undecided": "undecided, nearest to even first",
}
_WATCHED = {"terms": "your words", "synonyms": "the data's words", "contexts": "the gold words"}


@dataclass(frozen=True)
class RunOptions:
    """What a forecast of a run is given, beside settings.

    Attributes:
        data: rows to train on.
        watch: held-out rows.
        terms: file of terms.
        contexts: file or bundled list of contexts.
        allowed: file of rows in which words to avoid are right.
        lrs: learning rates.
        epochs: numbers of epochs.
        methods: training methods, each with its rate or without.
        from_args: file of a host's arguments.
        language: of TBX with several.
        split: of a hub data set.
        out: folder of the results.
        engine: what trains the pilots: this process, or ``ray``.
        workers: rates at work at once, with ray.
        ray_address: a running cluster.
    """

    data: str | None
    watch: str | None
    terms: Path | None
    contexts: str | None
    allowed: Path | None
    lrs: str | None
    epochs: str | None
    methods: str | None
    from_args: Path | None
    language: str | None
    split: str
    out: Path | None
    engine: str = "process"
    workers: int | None = None
    ray_address: str | None = None


def check_run_options(seeds: tuple[int, ...], by: str, max_lr: float | None, *, no_lora: bool) -> None:
    """Refuse options that only a forecast of contexts each alone has.

    Args:
        seeds: of the run.
        by: how it is forecast.
        max_lr: largest rate that counts.
        no_lora: whether LoRA is left out.

    Raises:
        UserError: one is given.
    """
    alone = {"--seeds": len(seeds) > 1, "--by": by != "collocation", "--max-lr": max_lr is not None,
             "--no-lora": no_lora}  # fmt: skip
    for name, is_given in alone.items():
        if is_given:
            rule = "with --data a whole run is forecast; contexts each alone without it"
            found = "several" if name == "--seeds" else None
            raise UserError(f"{name} is for contexts each trained alone", rule=rule, found=found)


def check_contexts_alone(given: RunOptions, training: Training, piloting: Piloting) -> None:
    """Refuse options that only a forecast of a run has.

    Args:
        given: its data and more.
        training: settings of the training.
        piloting: settings of a run.

    Raises:
        UserError: one is given.
    """
    names = [f.name for f in fields(given) if f.name != "contexts" and getattr(given, f.name) != _OF_A_RUN[f.name]]
    names += [f.name for f in fields(piloting) if getattr(piloting, f.name) != getattr(Piloting(), f.name)
              and f.name != "max_length"]  # fmt: skip
    names += ["max_length"] * (piloting.max_length is not None)
    names += ["batch_size"] * (training.batch_size != Training.batch_size)
    if names:
        rule = "rows to train on: --data TRAIN, with --watch HELD_OUT or --contexts FILE"
        raise UserError(f"--{names[0].replace('_', '-')} is for the forecast of a run", rule=rule, found="no --data")


_OF_A_RUN: dict[str, Any] = {f.name: None for f in fields(RunOptions)} | {"split": "train", "engine": "process"}


def run_forecast(source: ModelPlace, given: RunOptions, training: Training, piloting: Piloting, *, json: bool) -> None:
    """Forecast a run, and print what comes of it.

    Args:
        source: the model.
        given: data, what is watched.
        training: settings of the training.
        piloting: settings of the run and of the forecast.
        json: whether JSON is printed.

    Raises:
        UserError: something is wrong with what was given.
    """
    from borngap.data.recognise import layout_of
    from borngap.data.source import source_of
    from borngap.pilot.hostargs import of_arguments, read_arguments
    from borngap.pilot.prepare import forecast_run

    passes = () if given.epochs is None else read_passes(given.epochs)
    rates = () if given.lrs is None else read_rates(given.lrs)
    rows = source_of(given.data, given.split)
    if given.from_args is not None:
        kind = layout_of(rows, piloting.fields).kind
        training, piloting = of_arguments(read_arguments(given.from_args), training, piloting, kind)
    if passes:
        piloting = replace(piloting, epochs=passes[-1])
    runner = _runner(given)
    plans = [(training, piloting, given.out)] if given.methods is None else _each(given, training, piloting, rates)
    loaded, summaries = source.load(), list[dict[str, Any]]()
    for chosen, settings, out in plans:
        with Progress("reading rows") as bar:
            made = forecast_run(
                loaded.model, loaded.tokenizer, rows, given.watch, terms=given.terms, contexts=given.contexts,
                allowed=given.allowed, training=chosen, settings=settings, rates=rates, passes=passes, out=out,
                split=given.split, language=given.language, name=source.model, engine=runner,
                on_progress=_seen(bar),
            )  # fmt: skip
        summaries.append(made.summary)
    if json:
        print_json(summaries[0] if given.methods is None else {"schema": 1, "methods": summaries})
        return
    for summary, (_, _, out) in zip(summaries, plans, strict=True):
        _report(summary, out)
    if given.methods is not None:
        _methods(summaries)


def refuse_steps(context: typer.Context) -> None:
    """Refuse steps beside epochs, of whatever number.

    Args:
        context: of the command.

    Raises:
        UserError: steps are given.
    """
    source = context.get_parameter_source("steps")
    if source is not None and not source.name.startswith("DEFAULT"):
        raise UserError("--epochs and --steps are given", rule="one of them")


def _runner(given: RunOptions) -> RayPilots | None:
    """What trains the pilots, if not this process."""
    import os

    from borngap.pilot.ray import RayPilots
    from borngap.ray import WARNING

    if given.engine != "ray":
        for name in ("workers", "ray_address"):
            if getattr(given, name) is not None:
                raise UserError(f"--{name.replace('_', '-')} is for --engine ray", found=f"--engine {given.engine}")
        return None
    workers = (os.cpu_count() or 1) if given.workers is None else given.workers
    found = RayPilots(workers, given.ray_address)
    if given.ray_address is None:
        typer.echo(f"warning: {WARNING}", err=True)
    return found


def _each(
    given: RunOptions, training: Training, piloting: Piloting, rates: Sequence[float]
) -> list[tuple[Training, Piloting, Path | None]]:
    """A plan a method: each has its share of the budget, and a folder of its own."""
    found = []
    plain = Training(method=training.method)  # what was not given is the method's own
    standard = None if training.rate == plain.rate else training.rate
    rank = None if training.lora_rank == plain.lora_rank else training.lora_rank
    for part in (given.methods or "").split(","):
        name, told, rate = (piece.strip() for piece in part.partition(":"))
        if told and rates:
            raise UserError("a method has a rate of its own beside --lrs", rule="either of both", found=given.methods)
        chosen = _rate_of(part, rate) if told else standard
        own = training.under(cast("Method", name), chosen, rank)
        if training.penalised != own.penalised:
            refuse_penalty(f"{training.penalty} under {name}, of --methods")
        found.append((own, None if given.out is None else given.out / name))
    names = [own.method for own, _ in found]
    if len(set(names)) < len(names) or len(names) < 2:
        rule = "two or more methods, none twice, such as lora:2e-4,full:2e-5; several rates of one: --lrs"
        raise UserError("these methods can't be compared", rule=rule, found=given.methods)
    share = replace(piloting, budget=piloting.budget / len(found))
    return [(own, share, out) for own, out in found]


def _rate_of(part: str, rate: str) -> float:
    """The one rate of a method."""
    try:
        return float(rate)
    except ValueError:
        fix = "such as lora:2e-4,full:2e-5; several rates of one method: --lrs"
        raise UserError("can't read a method's rate", rule="METHOD or METHOD:RATE", found=part, fix=fix) from None


def _methods(summaries: Sequence[Mapping[str, Any]]) -> None:
    """Print a row a method."""
    rows = [
        [s["run"]["training"]["method"], f"{s['all']['rate']:g}", _percent(s["all"]["ahead_after"]),
         _between(s["all"]["low"], s["all"]["high"]), _percent(s["all"]["over_use_after"]), s["all"]["flips"],
         s["all"]["undecided"], s["all"]["stays_behind"], f"{s['cost']['of_run']:.1%}"]
        for s in summaries
    ]  # fmt: skip
    headings = ["method", "rate", "lead", "90 % interval", "over-use", "come ahead", "undecided", "stay behind", "cost"]
    print_table(fitted_table("\nBy method", headings, rows, 2, keys=1))


def _seen(bar: Progress) -> Callable[[RunProgress], None]:
    def see(state: RunProgress) -> None:
        bar.show(state.done, state.total, what=state.doing)

    return see


def _report(summary: Mapping[str, Any], folder: Path | None) -> None:
    about, notes = list(_about(summary)), [f"note: {note}" for note in summary["notes"]]
    for line in (_headline(summary), *(notes + about if summary["all"].get("no_better") else about + notes)):
        say(line)
    if len(summary["curve"]) > 1:
        _curve(summary)
    if summary["terms"]:
        _terms(summary["terms"], several=summary["rate_to_use"] is not None)
    for line in _places(summary["places"]):
        say(line)
    for line in _costs(summary, folder):
        say(line)


def _headline(summary: Mapping[str, Any]) -> str:
    entry, words = summary["all"], _WATCHED[summary["run"]["watched"]]
    loss = Training.from_json(summary["run"]["training"]).loss_words
    at = f" ({loss})" * bool(loss) + (f" at {entry['rate']:g}" if summary["rate_to_use"] else "")
    at += f" of {entry['epochs']:g} epoch{'s' * (entry['epochs'] != 1)}" if summary["epochs_to_use"] else ""
    places = "places" if summary["run"]["watched"] == "contexts" else "held-out places"
    if entry["ahead_after"] is None:
        return f"No forecast{at}: {entry['why']}. Before the run {words} lead at {_percent(entry['ahead_before'])}."
    share = f"{_percent(entry['ahead_after'])} ({_between(entry['low'], entry['high'])})"
    before = _percent(entry["ahead_before"])
    if entry.get("no_better"):
        told = (
            f"before it {words} lead at {before} of {entry['places']} {places}, by the pilot alone after it at {share}"
        )
        return f'"Nothing changes" is as good a forecast of this run{at}: {told}.'
    return f"After this run{at} {words} will lead at {share} of {entry['places']} {places}; before: {before}."


def _about(summary: Mapping[str, Any]) -> Iterator[str]:
    entry = summary["all"]
    if entry["ahead_after"] is None:
        return
    alone = "By the pilot alone: " * bool(entry.get("no_better"))
    yield (
        f"{alone}{entry['flips']} will come ahead, {entry['kept']} stay ahead, {entry['stays_behind']} stay behind, "
        f"{entry['lost']} will be lost, {entry['undecided']} are undecided"
        f"{' (the share above counts each by its chance)' * (entry['undecided'] > 0)}."
    )
    if entry["right_avoid"]:
        yield (
            f"{alone}Over-use, your word leading where the other is right: {_percent(entry['over_use_after'])} "
            f"({_between(entry['over_use_low'], entry['over_use_high'])}) of {entry['right_avoid']} "
            f"places; before: {_percent(entry['over_use_before'])}."
        )
    elif summary["run"]["watched"] == "terms":
        yield "Over-use is not known: nothing says where the words to avoid are right (--allowed, --allowed-field)."
    right, otherwise = (_percent(entry[name]) for name in ("right_expected", "right_if_nothing_changes"))
    if not entry.get("no_better"):
        told = f'it names the leader right at {right} of the places, "nothing changes" at {otherwise}'
        yield f"By its own estimate {told}."
    yield "The intervals (90 %) are provisional: docs/forecast-runs-measured.md says what they were fitted on."


def _curve(summary: Mapping[str, Any]) -> None:
    """Print a row a rate and number of epochs, as far as there are several of either."""
    axes = {"rate": summary["curve"][0]["rate"] != summary["curve"][-1]["rate"],
            "epochs": summary["epochs_to_use"] is not None or summary["curve"][0]["epochs"] is not None}  # fmt: skip
    shown = [name for name, several in axes.items() if several] or ["rate"]
    rows = [
        [*(f"{e[name]:g}" for name in shown), _percent(e["ahead_after"]), _between(e["low"], e["high"]),
         _percent(e["over_use_after"]), f"{e['pilot']['span']:.3g}", _verdict(e, summary)]
        for e in summary["curve"]
    ]  # fmt: skip
    first = summary["curve"][0]
    now = [_percent(first["ahead_before"]), "", _percent(first["over_use_before"])]
    head = ["before", *[""] * (len(shown) - 1), *now, "", ""]
    headings = [*shown, "lead", "90 % interval", "over-use", "span", ""]
    title = "\nBy " + " and ".join({"rate": "learning rate", "epochs": "epochs"}[name] for name in shown)
    print_table(fitted_table(title, headings, [head, *rows], 1, keys=len(shown)))


def _verdict(entry: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    if entry["ahead_after"] is None:
        return "unstable"
    best = summary["all"]
    return "to use" if (entry["rate"], entry["epochs"]) == (best["rate"], best["epochs"]) else ""


def _terms(terms: list[dict[str, Any]], *, several: bool) -> None:
    """Print a row a term; with several rates also from which one on it leads at half of its places."""
    worst = sorted(terms, key=lambda e: (-1.0 if e["ahead_after"] is None else e["ahead_after"], -e["places"]))
    rows = [
        [e["use"], e["avoid"], e["rows"], e["places"], _percent(e["ahead_before"]), _percent(e["ahead_after"]),
         _between(e["low"], e["high"]), *[_half_from(e)] * several, e["right_avoid"],
         _percent(e["over_use_before"]), _percent(e["over_use_after"])]
        for e in worst[:_TERMS]
    ]  # fmt: skip
    headings = ["use", "instead of", "rows", "places", "lead before", "after", "90 % interval",
                *["half from"] * several, "right", "over-use before", "after"]  # fmt: skip
    print_table(fitted_table(f"\nTerms, worst first ({len(rows)} of {len(terms)})", headings, rows, 2, keys=2))


def _half_from(entry: Mapping[str, Any]) -> str:
    return "before" if leads_at_half(entry["ahead_before"]) else _rate(entry["half_at"])


def _places(places: list[dict[str, Any]]) -> Iterator[str]:
    due = [place for place in places if place["kind"] != "right" and place["forecast_gap"] is not None]
    for kind, title in _KINDS.items():
        own = sorted((p for p in due if p["prospect"] == kind), key=_rank)
        if own:
            yield f"\n{title}: {len(own)}" + (f", of which {_PLACES}" if len(own) > _PLACES else "")
        yield from map(_place_line, own[:_PLACES])


def _place_line(place: Mapping[str, Any]) -> str:
    numbers = "{base_gap:+.2f} to {forecast_gap:+.2f} ({low:+.2f} to {high:+.2f}) nat".format(**place)
    before = " ".join(visible(place["before"]).split())[-60:]
    gold, rival = (visible(place[side].strip()) for side in ("gold", "rival"))
    return f"{numbers}  ...{before} [{gold}] against {rival!r}; {visible(place['where'])}"


def _rank(place: Mapping[str, Any]) -> float:
    size = abs(place["forecast_gap"])
    return size if place["prospect"] == "undecided" else -size


def _costs(summary: Mapping[str, Any], folder: Path | None) -> Iterator[str]:
    cost, pilot, run = summary["cost"], summary["all"]["pilot"], summary["run"]
    what = f"{pilot['pilots']} pilots" if pilot["pilots"] > 1 else "a pilot"
    count = len({entry["rate"] for entry in summary["curve"]})
    rates = f" at each of {count} rates" if count > 1 else ""
    yield (
        f"\nIt took {cost['of_run']:.1%} of the run ({run['steps']} steps, {run['passes']} rows): {what} of "
        f"{pilot['steps']} steps{rates}, each for {pilot['span']:.3g} of the run's; {spoken(cost['seconds'])}."
    )
    if folder is not None:
        yield f"written to {folder}: every place in places.parquet"


def _rate(value: float | None) -> str:
    return MISSING if value is None else f"{value:g}"


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.0f} %"


def _between(low: float | None, high: float | None) -> str:
    return MISSING if low is None or high is None else f"{100 * low:.0f} to {100 * high:.0f}"
