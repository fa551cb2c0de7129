"""From what a user gives to a forecast of a run: data, held-out rows, terms or contexts, settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from borngap.context import Context, contexts_of
from borngap.data.recognise import layout_of
from borngap.data.source import source_of
from borngap.data.tokenised import Tokens
from borngap.errors import UserError
from borngap.model.length import context_length
from borngap.model.load import Loaded
from borngap.model.precision import full_float32, settle
from borngap.model.vocabulary import tokenizer_of, vocabulary_of
from borngap.optimisers import FACTS_OF
from borngap.pilot.design import LORA_SCALED
from borngap.pilot.hostargs import of_arguments, of_loader, rows_of_loader
from borngap.pilot.pilotfolder import RunForecast
from borngap.pilot.pilots import RunProgress
from borngap.pilot.places.watched import Asked
from borngap.pilot.plan import StepPlan, run_plan
from borngap.pilot.rows import check_lengths, run_data
from borngap.pilot.settings import Piloting
from borngap.pilot.wholerun import PilotEngine, RunJob, run_job
from borngap.rivals.fusedhead import joined_loss
from borngap.rivals.pairs import token_pairs
from borngap.rivals.rivalloss import AUTO, RivalLoss
from borngap.train.methods import method_of
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
    passes: Sequence[float] = (),
    out: str | Path | None = None,
    split: str = "train",
    language: str | None = None,
    name: str | None = None,
    engine: PilotEngine | None = None,
    on_progress: Callable[[RunProgress], None] | None = None,
    **options: Any,
) -> RunForecast:
    """Forecast what a fine-tuning on a data set will do to watched words, at a small share of its cost.

    A pilot, a run of a fifth of the steps or fewer on half batches, with the run's dose, is trained from the model's
    weights; how far it moves each watched place tells how far the run will (docs/forecast-runs.md).

    Args:
        model: a Hugging Face causal LM without adapters; its weights end as they began.
        tokenizer: its tokenizer.
        data: the rows that the run trains on: a path, a hub name, a ``datasets`` object, a sequence of texts or
            mappings; or a ``torch`` DataLoader, as a Lightning Trainer is given it, whose rows, batch size and order
            are taken.
        watch: held-out rows, in the same ways.
        terms: a file of terms, or a sequence of pairs, the wanted word first: their places in ``watch`` are watched.
            Without terms and contexts places with a synonym in front or behind are.
        contexts: contexts to watch instead: a file, or a sequence of contexts.
        allowed: where words to avoid are right, as for ``terms``.
        training: the run's method, rate, batch size, optimiser and schedule; LoRA at its standard rate unless given.
        settings: epochs, order, packing; how rows are read; the budget.
        rates: learning rates to forecast, ascending; they share the budget. The settings' own unless given.
        passes: numbers of epochs to forecast, ascending, all from the pilot of the longest; the settings' own unless
            given.
        out: folder for the results; a forecast of the same plan that was cut off there goes on.
        split: which split of a hub data set.
        language: of TBX with several languages.
        name: the model's name in the results; workers elsewhere load it by this name.
        engine: trains the pilots, such as ``RayPilots(workers=4)``; one after the other here unless given.
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
    training = training or Training(method="lora")
    if passes:
        chosen = replace(chosen, epochs=check_passes(passes)[-1])
    if hasattr(data, "collate_fn"):
        job = _of_loader(named, data, asked, *of_loader(data, training, chosen), rates)
    else:
        job = prepare_run(named, source_of(data, split), asked, training, chosen, rates)
    return run_job(with_passes(job, passes), out, on_progress, engine)


@full_float32()
def forecast_trainer(
    trainer: Any,
    watch: Any = None,
    *,
    terms: Any = None,
    contexts: Any = None,
    allowed: Any = None,
    settings: Piloting | None = None,
    rates: Sequence[float] = (),
    out: str | Path | None = None,
    on_progress: Callable[[RunProgress], None] | None = None,
    **options: Any,
) -> RunForecast:
    """Forecast what a Trainer's own run will do, before ``trainer.train()``: its model, rows, batches and arguments.

    Args:
        trainer: a ``Trainer`` of transformers or ``SFTTrainer`` of TRL, with its data set and its model, adapters in
            place; all is left as it was.
        watch: held-out rows, as for ``forecast_run``; they are read as its own data set is.
        terms: terms whose places in ``watch`` are watched.
        contexts: contexts to watch instead.
        allowed: where words to avoid are right.
        settings: the budget, and how held-out rows are read.
        rates: learning rates to forecast; the Trainer's own unless given.
        out: folder for the results.
        on_progress: called as it goes on.
        **options: single settings, as fields of ``Piloting``.

    Returns:
        The forecast.

    Raises:
        UserError: the run is of a kind that can't be forecast, or as for ``forecast_run``.
    """
    chosen, model = replace(settings or Piloting(), **options), trainer.model
    _check_trainer(trainer)
    tokenizer = tokenizer_of(trainer.processing_class)
    asked = asked_of(watch, terms, contexts, Allowed(marks_of(allowed), chosen.allowed_field))
    kind = "" if asked.held_out is None else layout_of(asked.held_out, chosen.fields).kind
    values = trainer.args.to_dict() | {"per_device_train_batch_size": trainer.args.train_batch_size}
    training, chosen = of_arguments(values, _adapted(model), chosen, kind)
    named = Loaded(str(model.config._name_or_path or type(model).__name__), model, tokenizer)
    job = _of_loader(named, trainer.get_train_dataloader(), asked, training, chosen, rates)
    return run_job(replace(job, rivals=_loss_of(trainer, tokenizer), is_prepared=True), out, on_progress)


def _loss_of(trainer: Any, tokenizer: Any) -> RivalLoss | None:
    """The RivalLoss that a Trainer is given or that has joined it."""
    loss = getattr(trainer, "compute_loss_func", None) or joined_loss(trainer.model)
    if loss is not None and not isinstance(loss, RivalLoss):
        rule = "the cross-entropy, or a borngap.RivalLoss"
        raise UserError("a run with this compute_loss_func can't be forecast", rule=rule, found=loss)
    return None if loss is None else loss.alone(tokenizer)


def _adapted(model: Any) -> Training:
    """Method, and LoRA's rank and scale, as a host's model has them."""
    name = method_of(model)
    if name not in LORA_SCALED:
        # what a configuration of PEFT alone knows is in the model already
        return Training(method="lora" if name == "peft" else name, dtype="auto")
    adapter = next(iter(model.peft_config.values()))
    return Training(method=name, lora_rank=adapter.r, lora_alpha=adapter.lora_alpha, dtype="auto")


def _check_trainer(trainer: Any) -> None:
    if trainer.processing_class is None:
        fix = "Trainer(..., processing_class=tokenizer)"
        raise UserError("the Trainer has no tokenizer", rule="held-out rows are read by one", fix=fix)
    if trainer.args.world_size > 1:
        rule, fix = "one process", "save its arguments, and use borngap forecast --from-args with the whole batch size"
        raise UserError("a run of several processes", rule=rule, found=trainer.args.world_size, fix=fix)


def _of_loader(
    loaded: Loaded, loader: Any, asked: Asked, training: Training, settings: Piloting, rates: Sequence[float]
) -> RunJob:
    rows, stamp = rows_of_loader(loader)
    facts = {"name": type(loader.dataset).__name__, "stamp": stamp, "layout": "a loader's batches",
             "supervised": "tokens whose label is not -100", "rows": len(rows), "malformed": 0}  # fmt: skip
    return _planned(loaded, rows, asked, training, settings, rates, facts)


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
    size = vocabulary_of(loaded.tokenizer, loaded.model.get_output_embeddings().weight.shape[0]).size
    found = run_data(source, loaded.tokenizer, replace(settings, seed=training.seed), size)
    facts = {
        "name": found.name, "stamp": source.stamp(), "layout": found.layout, "supervised": found.supervised,
        "rows": len(found.rows), "malformed": found.malformed,
    }  # fmt: skip
    return _planned(loaded, found.rows, asked, training, settings, rates, facts)


def replanned(job: RunJob, training: Training, settings: Piloting) -> RunJob:
    """Return a job with the rows of another.

    Args:
        job: the other.
        training: settings of the run.
        settings: epochs, order, budget.

    Returns:
        The job.

    Raises:
        UserError: no step moves anything, or words stand nowhere, as for ``prepare_run``.
    """
    return _planned(job.loaded, job.plan.rows, job.asked, training, settings, (), job.facts)


def _planned(
    loaded: Loaded, rows: Sequence[Tokens], asked: Asked, training: Training, settings: Piloting,
    rates: Sequence[float], facts: Mapping[str, Any],
) -> RunJob:  # fmt: skip
    chosen = replace(settings, seed=training.seed)
    if training.optimizer != "adamw":
        rule, found = (
            "AdamW: a pilot's steps stand for many of the run's by its decays",
            FACTS_OF[training.optimizer].words,
        )
        fix = "leave --optimizer out for AdamW's forecast; no pilot was tried with others"
        raise UserError("a run with this optimiser can't be forecast", rule=rule, found=found, fix=fix)
    training = replace(training, dtype=settle(loaded.model, training.dtype))
    check_lengths(rows, context_length(loaded.model))
    plan, rivals = run_plan(rows, training, chosen), _rivals(training, asked, loaded.tokenizer)
    if rivals is not None:
        rivals.check_rows((torch.tensor(row.labels) for row in rows), str(facts["name"]))
    pairs = _pairs(plan, asked, loaded.tokenizer, str(facts["name"]))
    return RunJob(loaded, plan, asked, chosen, tuple(rates) or (training.learning_rate,), facts, rivals, pairs)


def _rivals(training: Training, asked: Asked, tokenizer: Any) -> RivalLoss | None:
    """The loss on rivals that a run is trained with: at the watched terms, or at synonyms where none are given."""
    form = training.added
    if form is None:
        return None
    if asked.contexts is not None:
        rule, fix = "words, which are looked for in the rows", "--terms FILE with --watch, or no --rival-loss"
        raise UserError("a loss on rivals can't be told from contexts", rule=rule, found=training.rival_loss, fix=fix)
    words = AUTO if asked.terms is None else asked.terms
    return RivalLoss(words, tokenizer, kind=form.kind, weight=form.weight, margin=form.margin, top_p=training.top_p)


def _pairs(plan: StepPlan, asked: Asked, tokenizer: Any, where: str) -> tuple[tuple[int, int], ...]:
    """The tokens whose overlaps a penalty is of: those of the watched terms, in the run's rows."""
    penalty = plan.training.penalised
    if penalty is None or penalty.kind != "overlap":
        return ()
    if asked.terms is None:
        rule, fix = "words, which are looked for in the rows", "--terms FILE, or --penalty decorrelation:WEIGHT"
        raise UserError("nothing says whose overlap is penalised", rule=rule, found=plan.training.penalty, fix=fix)
    return tuple(token_pairs(asked.terms, tokenizer, [row.labels for row in plan.rows], where))


def with_passes(job: RunJob, passes: Sequence[float]) -> RunJob:
    """Return a job that forecasts runs of fewer epochs too, from the pilot of its own.

    Where the rate is constant after its warm-up, a run of fewer epochs is the beginning of a longer one, and so is its
    pilot. Where the rate falls by the whole length of the run it is not: the pilot is read where its dose, the sum of
    rates, is that of the shorter run.

    Args:
        job: of the longest run.
        passes: numbers of epochs, ascending; with one or none the job stays as it is.

    Returns:
        The job.
    """
    if len(passes) < 2:
        return job
    plans = [run_plan(job.plan.rows, job.plan.training, replace(job.settings, epochs=epochs)) for epochs in passes]
    dose = math.fsum(job.plan.rates)
    return replace(job, stops=tuple((e, math.fsum(p.rates) / dose) for e, p in zip(passes, plans, strict=True)))


def check_passes(passes: Sequence[float]) -> Sequence[float]:
    """Return numbers of epochs.

    Raises:
        UserError: they are not positive and ascending.
    """
    if passes[0] <= 0 or any(b <= a for a, b in pairwise(passes)):
        raise UserError("numbers of epochs are out of range", rule="positive, each more than the last", found=passes)
    return passes
