"""Runs of remedies: the planned run with what each changes, on the same rows, watched at the same places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from borngap.data.recognise import layout_of
from borngap.data.rows import DataSource
from borngap.data.source import source_of
from borngap.data.tokenised import IGNORED
from borngap.errors import UserError
from borngap.methods import METHODS
from borngap.pilot.prepare import prepare_run, replanned
from borngap.pilot.settings import Piloting
from borngap.pilot.wholerun import RunJob
from borngap.remedies.remedy import Remedy
from borngap.scanning.supervised import Supervision, examples_of
from borngap.tokens import decoded
from borngap.training import Training
from borngap.words.occurrences import Finder

_OUTPUT = "readout"


def remedy_job(remedy: Remedy, planned: RunJob, source: DataSource) -> RunJob:
    """Return the run of a remedy.

    Args:
        remedy: what it changes.
        planned: the run without it.
        source: the rows as they are given.

    Returns:
        The job. Rows that stand there several times are gone through in as many steps as the planned run has.

    Raises:
        UserError: the method adapts no layers that are chosen, or has the head as a target already.
    """
    training, settings = planned.plan.training, planned.settings
    if remedy.loss is not None:
        training = replace(training, rival_loss=str(remedy.loss))
    if remedy.penalty is not None:
        training = replace(training, penalty=str(remedy.penalty))
    if remedy.rate != 1:
        training = replace(training, rate=training.learning_rate * remedy.rate)
    if remedy.head:
        training = _with_head(training)
    if remedy.upsample > 1:
        training, settings = _of_as_many_steps(training, settings, remedy.epochs)
        rows, facts = upsampled(source, remedy.upsample, planned), planned.facts
        job = prepare_run(planned.loaded, source_of(rows), planned.asked, training, replace(settings, limit=None))
        return replace(job, facts={**facts, "rows": len(job.plan.rows), "times": remedy.upsample})
    if remedy.epochs != 1:
        training, settings = _longer(training, settings, remedy.epochs)
    return replanned(planned, training, settings)


def upsampled(source: DataSource, times: int, planned: RunJob) -> list[Any]:
    """Return rows, those with a wanted word in what is supervised several times, one behind the other.

    Args:
        source: the rows.
        times: how often such a row stands there.
        planned: the run, whose words and whose way of reading rows count.

    Returns:
        Their values; malformed rows are left out.

    Raises:
        UserError: there are no terms.
    """
    settings, tokenizer, terms = planned.settings, planned.loaded.tokenizer, planned.asked.terms
    if terms is None:
        raise UserError("nothing says which rows are to stand there several times", rule="terms", fix="--terms FILE")
    finder = Finder(terms.terms)
    longest = None if settings.packing else settings.max_length  # packed rows are not cut
    supervision = Supervision(tokenizer, layout_of(source, settings.fields), longest, settings.loss)
    size, values = len(tokenizer), list[Any]()
    for row in source.rows(0, settings.limit):
        for example in examples_of([row], supervision, size)[0]:
            said = finder.find(decoded([label for label in example.labels if label != IGNORED], tokenizer))
            value = dict(row.value) if isinstance(row.value, Mapping) else row.value
            values += [value] * (times if any(one.side == "use" for one in said) else 1)
    return values


def _with_head(training: Training) -> Training:
    if not METHODS[training.method].layers:
        rule, fix = "a method that adapts layers, such as LoRA", "leave head out, or use --method lora"
        raise UserError("the head can't be a target", rule=rule, found=f"--method {training.method}", fix=fix)
    if _OUTPUT in training.lora_targets:
        raise UserError("the head is a target already", rule="a remedy changes something", fix="leave head out")
    return replace(training, lora_targets=(*training.lora_targets, _OUTPUT))


def _longer(training: Training, settings: Piloting, times: float) -> tuple[Training, Piloting]:
    """As many times the epochs, or the steps where no epochs are given."""
    if settings.epochs is not None:
        return training, replace(settings, epochs=settings.epochs * times)
    return replace(training, steps=max(1, round(training.steps * times))), settings


def _of_as_many_steps(training: Training, settings: Piloting, times: float) -> tuple[Training, Piloting]:
    """The planned run's steps, whatever rows there are."""
    return replace(training, steps=max(1, round(training.steps * times))), replace(settings, epochs=None)
