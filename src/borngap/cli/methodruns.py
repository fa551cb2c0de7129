"""``borngap methods --data``: what each method does to the watched words in a run on a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from borngap.cli.arguments import ModelPlace
from borngap.cli.progress import Progress, spoken
from borngap.cli.show import fitted_table, print_json, print_table, say
from borngap.errors import UserError
from borngap.methods import METHODS, Method
from borngap.pilot.settings import Piloting
from borngap.rates import check_rates, read_rates
from borngap.report.text import MISSING
from borngap.training import Training

_UP_TO, _COUNT = 30, 4  # a method's rates unless given: from its usual one to 30 times that
_A_NUMBER = 4  # of what AdamW holds: the number, its gradient, two moments


@dataclass(frozen=True)
class DataOptions:
    """What a comparison on a data set is given, beside settings.

    Attributes:
        data: rows to train on; None for contexts each alone.
        watch: held-out rows.
        contexts: file or bundled list, watched instead of rows.
        terms: file of terms.
        allowed: file of rows in which words to avoid are right.
        gain: share of the places at which methods are compared.
        out: folder of the results.
    """

    data: str | None
    watch: str | None
    contexts: str | None
    terms: Path | None
    allowed: Path | None
    gain: float | None
    out: Path | None


def check_no_data(given: DataOptions, training: Training, piloting: Piloting) -> None:
    """Refuse options that only a data set has.

    Args:
        given: the options.
        training: settings of the training.
        piloting: settings of a run.

    Raises:
        UserError: one is given.
    """
    names = [f.name for f in fields(given) if f.name != "contexts" and getattr(given, f.name) is not None]
    names += [f.name for f in fields(piloting) if getattr(piloting, f.name) != getattr(Piloting(), f.name)]
    names += [n for n in ("dropout", "batch_size") if getattr(training, n) != getattr(Training, n)]
    if names:
        rule = "rows to train on: --data TRAIN, with --watch HELD_OUT or --contexts FILE"
        raise UserError(f"--{names[0].replace('_', '-')} is for a run on a data set", rule=rule, found="no --data")


def compare_on_data(
    source: ModelPlace, given: DataOptions, methods: Sequence[str], training: Training, piloting: Piloting, *,
    json: bool,
) -> None:  # fmt: skip
    """Forecast the run under each method at several rates, and print one table.

    Args:
        source: the model.
        given: data, what is watched.
        methods: names, each with rates or without: ``lora``, ``lora:2e-4``, ``ia3:1e-3:1e-2:3``.
        training: settings of the training.
        piloting: settings of the run and of the forecasts; the budget is for all of them.
        json: whether JSON is printed.

    Raises:
        UserError: nothing can be applied, or something is wrong with what was given.
    """
    from borngap.changes.equalgain import common_gain

    wanted = dict(map(_read, methods))
    if len(wanted) < len(methods) or not wanted:
        raise UserError("these methods can't be compared", rule="one or more, none twice", found=", ".join(methods))
    if given.gain is not None and not 0 < given.gain <= 1:
        raise UserError("the gain is out of range", rule="a share of the places, in (0, 1]", found=given.gain)
    loaded, entries = source.load(), list[dict[str, Any]]()
    own = replace(piloting, budget=piloting.budget / len(wanted))
    for name, rates in wanted.items():
        entries.append(_forecast(loaded, given, training.under(name, rates[0]), own, rates, source.model))
    made = [entry["forecast"]["curve"] for entry in entries if entry["forecast"]]
    if not made:
        raise UserError("no method can be applied", found="; ".join(f"{e['method']}: {e['refused']}" for e in entries))
    gain = given.gain or common_gain(made)
    for entry in entries:
        entry |= _at(entry, gain)  # noqa: PLW2901  # in place
    if json:
        print_json({"schema": 1, "model": source.model, "gain": gain, "methods": entries})
        return
    _print(source.model, entries, gain)


def _read(text: str) -> tuple[Method, tuple[float, ...]]:
    """A method and its rates."""
    name, told, rates = text.partition(":")
    if name not in METHODS or name == "peft":
        rule = f"some of {', '.join(n for n in METHODS if n != 'peft')}"
        raise UserError("unknown method", rule=rule, found=name)
    usual = METHODS[name].rate
    found = read_rates(rates) if told else read_rates(f"{usual}:{_UP_TO * usual}:{_COUNT}")
    check_rates(found)
    return name, found


def _forecast(
    loaded: Any, given: DataOptions, training: Training, piloting: Piloting, rates: Sequence[float], model: str
) -> dict[str, Any]:
    from borngap.pilot.prepare import forecast_run
    from borngap.train.methods import make_trainable, stripped

    head: dict[str, Any] = {
        "method": training.method,
        "rates": list(rates),
        "usual_rate": METHODS[training.method].rate,
    }
    try:
        trained = make_trainable(loaded.model, training)[0]
    except UserError as error:
        return head | {"refused": error.line, "forecast": None}
    sizes = [(p.numel(), p.element_size()) for p in trained.parameters() if p.requires_grad]
    stripped(trained)
    with Progress(f"{training.method}: reading rows") as bar:
        made = forecast_run(
            loaded.model, loaded.tokenizer, given.data, given.watch, terms=given.terms, contexts=given.contexts,
            allowed=given.allowed, training=training, settings=piloting, rates=rates, name=model,
            out=None if given.out is None else given.out / training.method,
            on_progress=lambda s: bar.show(s.done, s.total, what=f"{training.method}: {s.doing}"),
        )  # fmt: skip
    cost = made.summary["cost"]
    return head | {
        "refused": None, "trained_parameters": sum(n for n, _ in sizes),
        "training_bytes": _A_NUMBER * sum(n * size for n, size in sizes),
        "seconds_a_row": cost["seconds"] / max(1, cost["gradients"]), "forecast": made.summary,
    }  # fmt: skip


def _at(entry: Mapping[str, Any], gain: float | None) -> dict[str, Any]:
    from borngap.changes.equalgain import at_gain, why_not

    if entry["forecast"] is None or gain is None:
        return {"at_gain": None, "why": entry["refused"] or "no method brings places ahead"}
    curve = entry["forecast"]["curve"]
    found = at_gain(curve, gain)
    return {"at_gain": None if found is None else asdict(found), "why": "" if found else why_not(curve, gain)}


def _print(model: str, entries: Sequence[Mapping[str, Any]], gain: float | None) -> None:
    made = [entry for entry in entries if entry["forecast"]]
    first = made[0]["forecast"]
    before, run = first["all"], first["run"]
    say(
        f"{model}: a run of {run['steps']} steps, {before['places']} held-out places; before it your words lead at "
        f"{_percent(before['ahead_before'])}, over-use {_percent(before['over_use_before'])}"
    )
    rows = []
    for entry in made:
        low, best = entry["forecast"]["curve"][0], entry["forecast"]["all"]
        ends = [cell for at in (low, best) for cell in (f"{at['rate']:g}", _percent(at["ahead_after"]))]
        costs = [f"{entry['training_bytes'] / 2**20:.3g} MiB", f"{1000 * entry['seconds_a_row']:.0f} ms"]
        over = _percent(best["over_use_after"])
        rows.append([entry["method"], f"{entry['trained_parameters']:,}", *ends, over, *costs])
    headings = ["method", "trained", "lowest rate", "lead", "best rate", "lead", "over-use", "memory", "a row"]
    print_table(fitted_table("\nWhat each method does in this run", headings, rows))
    if gain is not None:
        _print_at_gain(made, gain)
    for entry in entries:
        if entry["refused"]:
            say(f"{entry['method']}: left out: {entry['refused']}")
    say("A pilot's loss is too high for the run's: it only compares methods. Intervals: --json.")
    say(f"It took {sum(e['forecast']['cost']['of_run'] for e in made):.1%} of the run, "
        f"{spoken(sum(e['forecast']['cost']['seconds'] for e in made))}.")  # fmt: skip


def _print_at_gain(made: Sequence[Mapping[str, Any]], gain: float) -> None:
    rows = []
    for entry in made:
        at = entry["at_gain"]
        cells = [entry["why"], MISSING, MISSING] if at is None else [
            f"{at['rate']:.2g}", _percent(at["over_use"]), MISSING if at["loss"] is None else f"{at['loss']:.2f}"
        ]  # fmt: skip
        rows.append([entry["method"], *cells])
    title = f"\nWhere your words lead at {_percent(gain)} of the places"
    print_table(fitted_table(title, ["method", "rate", "over-use", "pilot's loss"], rows))


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.0f} %"
