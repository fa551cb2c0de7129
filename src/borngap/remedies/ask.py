"""From what a user gives to a search for a remedy: data, held-out rows, terms, settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from borngap.data.source import source_of
from borngap.model.load import Loaded
from borngap.model.precision import full_float32
from borngap.model.vocabulary import tokenizer_of
from borngap.pilot.pilots import RunProgress
from borngap.pilot.prepare import asked_of, prepare_run
from borngap.remedies.jobs import remedy_job
from borngap.remedies.paste import NamedFiles, reading_options
from borngap.remedies.remedy import BIAS, read_remedies
from borngap.remedies.remedyfolder import RemedySearch
from borngap.remedies.settings import Remedying
from borngap.remedies.trying import RemedyTrial, search
from borngap.training import Training
from borngap.usage.allowed import Allowed, marks_of


@full_float32()
def remedy_search(
    model: Any,
    tokenizer: Any,
    data: Any,
    watch: Any,
    *,
    terms: Any,
    allowed: Any = None,
    training: Training | None = None,
    settings: Remedying | None = None,
    out: str | Path | None = None,
    split: str = "train",
    language: str | None = None,
    name: str | None = None,
    on_progress: Callable[[RunProgress], None] | None = None,
    **options: Any,
) -> RemedySearch:
    """Try remedies for words that stay behind in a planned fine-tuning, a pilot each, and say which to take.

    Args:
        model: a Hugging Face causal LM without adapters; its weights end as they began.
        tokenizer: its tokenizer.
        data: the rows that the run trains on, as for ``forecast_run``.
        watch: held-out rows, in the same ways.
        terms: words to use and to avoid: a file, or a sequence of pairs, the wanted word first.
        allowed: where words to avoid are right, as for ``terms``; without it and ``allowed_field`` no remedy is
            recommended.
        training: the run's method, rate, batch size, optimiser and schedule; LoRA at its standard rate unless given.
        settings: which remedies, what they may cost; epochs, order, packing; how rows are read; the budget.
        out: folder for the results; a search of the same plan that was cut off there goes on, and takes further
            remedies.
        split: which split of a hub data set.
        language: of TBX with several languages.
        name: the model's name in the results.
        on_progress: called as it goes on.
        **options: single settings, as fields of ``Remedying``.

    Returns:
        What each remedy gains and costs, and which to take.

    Raises:
        UserError: data or terms can't be read, a remedy can't be tried, there is nothing to watch, or the budget buys
            too little.
    """
    chosen, training = replace(settings or Remedying(), **options), training or Training(method="lora")
    loaded = Loaded(name or str(model.config._name_or_path or type(model).__name__), model, tokenizer_of(tokenizer))
    asked = asked_of(watch, terms, None, Allowed(marks_of(allowed), chosen.allowed_field), split, language)
    source, remedies = source_of(data, split), read_remedies(chosen.remedies)
    plain = prepare_run(loaded, source, asked, training, chosen.piloting)
    jobs = {remedy.name: remedy_job(remedy, plain, source) for remedy in remedies if remedy.name != BIAS}
    marks = ("--allowed", str(allowed)) if isinstance(allowed, str | Path) else ()
    field = ("--allowed-field", chosen.allowed_field) if chosen.allowed_field else ()
    words = str(terms) if isinstance(terms, str | Path) else "TERMS"
    reading = reading_options(chosen, split, language)
    given = NamedFiles(loaded.name, source.name, _named(watch), words, (*marks, *field), reading)
    return search(RemedyTrial(remedies, jobs, chosen, given), out, on_progress or (lambda _: None))


def _named(watch: Any) -> str:
    return str(watch) if isinstance(watch, str | Path) else "HELD_OUT"
