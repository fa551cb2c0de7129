"""From what a user gives to a forecast of a run: data, held-out rows, terms or contexts, settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from borngap.context import Context, contexts_of
from borngap.data.source import source_of
from borngap.errors import UserError
from borngap.model.length import context_length
from borngap.model.load import Loaded
from borngap.model.precision import full_float32, settle
from borngap.model.vocabulary import tokenizer_of, vocabulary_of
from borngap.pilot.pilotfolder import RunForecast
from borngap.pilot.plan import run_plan
from borngap.pilot.rows import check_lengths, run_data
from borngap.pilot.settings import Piloting
from borngap.pilot.watched import Asked
from borngap.pilot.wholerun import RunJob, RunProgress, run_job
from borngap.training import Training
from borngap.usage.allowed import Allowed, marks_of
from borngap.words.termfile import terms_of


@full_float32()
def forecast_run(
    model: Any,
    tokenizer: Any,
    data: Any,
    watch: Any = None,
    *,
    terms: Any = None,
    contexts: Any = None,
    allowed: Any = None,
    training: Training | None = None,
    settings: Piloting | None = None,
    rates: Sequence[float] = (),
    out: str | Path | None = None,
    split: str = "train",
    language: str | None = None,
    name: str | None = None,
    on_progress: Callable[[RunProgress], None] | None = None,
    **options: Any,
) -> RunForecast:
    """Forecast what a fine-tuning on a data set will do to watched words, at a small share of its cost.

    A pilot, a run of a fifth of the steps or fewer on half batches, with the run's dose, is trained from the model's
    weights; how far it moves each watched place tells how far the run will (docs/forecast-runs.md).

    Args:
        model: a Hugging Face causal LM without adapters; its weights end as they began.
        tokenizer: its tokenizer.
        data: the rows that the run trains on: a path, a hub name, a ``datasets`` object, or a sequence of texts or
            mappings.
        watch: held-out rows, in the same ways.
        terms: a file of terms, or a sequence of pairs, the wanted word first: their places in ``watch`` are watched.
            Without terms and contexts places with a synonym in front or behind are.
        contexts: contexts to watch instead: a file, or a sequence of contexts.
        allowed: where words to avoid are right, as for ``terms``.
        training: the run's method, rate, batch size, optimiser and schedule; LoRA at its standard rate unless given.
        settings: epochs, order, packing; how rows are read; the budget.
        rates: learning rates to forecast, ascending; they share the budget. The settings' own unless given.
        out: folder for the results; a forecast of the same plan that was cut off there goes on.
        split: which split of a hub data set.
        language: of TBX with several languages.
        name: the model's name in the results.
        on_progress: called as it goes on.
        **options: single settings, as fields of ``Piloting``.

    Returns:
        The forecast: all numbers, and the places.

    Raises:
        UserError: data, terms or contexts can't be read, there is nothing to watch, or the budget buys too little.
    """
    chosen = replace(settings or Piloting(), **options)
    named = Loaded(name or str(model.config._name_or_path or type(model).__name__), model, tokenizer_of(tokenizer))
    asked = asked_of(watch, terms, contexts, Allowed(marks_of(allowed), chosen.allowed_field), split, language)
    job = prepare_run(named, source_of(data, split), asked, training or Training(method="lora"), chosen, rates)
    return run_job(job, out, on_progress)


def asked_of(
    watch: Any, terms: Any, contexts: Any, allowed: Allowed, split: str = "train", language: str | None = None
) -> Asked:
    """Return what is to be watched.

    Args:
        watch: held-out rows, or None.
        terms: terms, or None.
        contexts: contexts, or None.
        allowed: tells where words to avoid are right.
        split: which split of a hub data set.
        language: of TBX with several languages.

    Returns:
        It.

    Raises:
        UserError: there is nothing to watch, or both terms and contexts.
    """
    if watch is None and contexts is None:
        rule, fix = "held-out rows, or contexts", "--watch HELD_OUT, or --contexts FILE"
        raise UserError("nothing to watch", rule=rule, fix=fix)
    if terms is not None and contexts is not None:
        raise UserError("terms and contexts are both given", rule="one of them is watched")
    given: tuple[Context, ...] | None = None if contexts is None else tuple(contexts_of(contexts))
    held = None if watch is None else source_of(watch, split)
    return Asked(held, None if terms is None else terms_of(terms, language), given, allowed)


def prepare_run(
    loaded: Loaded, source: Any, asked: Asked, training: Training, settings: Piloting, rates: Sequence[float] = ()
) -> RunJob:
    """Read the rows, and plan the run.

    Args:
        loaded: model and tokenizer.
        source: the rows to train on.
        asked: what is watched.
        training: the run's settings.
        settings: epochs, order, packing, budget.
        rates: learning rates to forecast; the settings' own unless given.

    Returns:
        The job.
    """
    model, tokenizer = loaded.model.eval(), loaded.tokenizer
    training = replace(training, dtype=settle(model, training.dtype))
    size = vocabulary_of(tokenizer, model.get_output_embeddings().weight.shape[0]).size
    found = run_data(source, tokenizer, settings, size)
    check_lengths(found.rows, context_length(model))
    facts = {
        "name": found.name, "stamp": source.stamp(), "layout": found.layout, "supervised": found.supervised,
        "rows": len(found.rows), "malformed": found.malformed,
    }  # fmt: skip
    plan = run_plan(found.rows, training, replace(settings, seed=training.seed))
    chosen = tuple(rates) or (training.learning_rate,)
    return RunJob(loaded, plan, asked, replace(settings, seed=training.seed), chosen, facts)
