"""BornGapCallback: a Tracker inside transformers' Trainer and TRL's trainers, in one line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler, ExportableState

from borngap.choices import DEFAULT_TOP_P, Criterion, HostStop, Kind
from borngap.context import Context, Target, contexts_of
from borngap.errors import UserError
from borngap.judge.stopping import SaturationRule
from borngap.judge.watch import Watch
from borngap.live.doses import planned_rates
from borngap.model.vocabulary import tokenizer_of
from borngap.track.batches import keeps_apart, refuse
from borngap.track.hostfacts import BornGapWarning, learning_rates
from borngap.track.metrics import PREFIX
from borngap.track.resume import stored_contexts
from borngap.track.sample import sample_targets
from borngap.track.tracker import Tracker
from borngap.track.watched import TermsToWatch
from borngap.usage.asking import Asking

_PRINTERS = {"PrinterCallback", "ProgressCallback", "NotebookProgressCallback", "RichProgressCallback"}
_PRINTED = {"logit_gap", "worst_logit_gap", "born_gap", "resolved", "terms/success", "terms/over_use", "forecast/ahead"}


class BornGapCallback(TrainerCallback, ExportableState):
    """Watches contexts and terms while a Trainer trains: ``Trainer(..., callbacks=[BornGapCallback(contexts)])``.

    Metrics go wherever the Trainer's own go (``log_history``, and what ``report_to`` names) under ``born_gap/...``, and
    into the metrics of an evaluation under ``eval_born_gap/...``, where they can choose the best model and drive an
    ``EarlyStoppingCallback`` that stands behind this one. The terminal gets a few of them, and at the end a sentence.
    The state takes part in checkpoints.

    Attributes:
        tracker: measures; None before training, and readable after it (``tracker.cost``, ``tracker.records``).
        verdicts: what became of each context, once training is over.
    """

    def __init__(
        self,
        contexts: Sequence[Context] | Sequence[Mapping[str, Any]] | str | Path | None = None,
        *,
        terms: Any = None,
        tokenizer: Any = None,
        dataset: Any = None,
        allowed: Any = None,
        asking: Asking | Mapping[str, Any] | None = None,
        sample: int | None = None,
        seed: int = 0,
        out: str | Path | None = None,
        every: int | None = None,
        max_overhead: float = 0.01,
        criterion: Criterion = "rank",
        stop: HostStop = "none",
        fraction: float = 1.0,
        rule: SaturationRule | Mapping[str, Any] | None = None,
        geometry: Kind = "readout",
        top_p: float = DEFAULT_TOP_P,
        per_context: bool = False,
        forecast: str | Path | None = None,
    ) -> None:
        """Say what to watch; nothing is measured before training begins.

        Args:
            contexts: contexts, mappings of their fields, or what ``read_contexts`` takes; without, and without
                terms, targets are taken from the data.
            terms: a file of terms, or a sequence of pairs, the wanted word first: success and over-use are followed
                over a sample of their places in ``dataset``.
            tokenizer: its tokenizer, if the Trainer has no ``processing_class``; of a processor its tokenizer is taken.
            dataset: tokenised examples to take targets from, such as the held-out set; the training set unless given.
                For terms, held-out rows: a path, a hub name, a ``datasets`` object, texts or mappings, also of token
                ids.
            allowed: where words to avoid are right, as ``borngap.terms`` takes it.
            asking: how rows are read for terms, or the fields of that: ``{"allowed_field": "allowed"}``.
            sample: how many targets to take, 8 unless given; of terms how many places, 64 unless given.
            seed: seeds the choice.
            out: the RUN folder; nothing is written without.
            every: steps between probes; chosen by cost unless given.
            max_overhead: time for probes over the training's own time.
            criterion: what counts as resolved.
            stop: ends the training on ``saturation``, on ``structural`` failure, once gold is ahead and stays so
                (``resolved``), or once what lags is forecast to stay behind (``hopeless``).
            fraction: share of contexts that must be saturated (of the resolvable ones) or resolved (of all), or, of the
                words that lag, must be forecast to stay behind, in (0, 1].
            rule: the saturation rule; the default one unless given.
            geometry: geometry matrix.
            top_p: nucleus mass.
            per_context: whether single contexts are logged beside the averages.
            forecast: FORECAST folder of this run (``borngap forecast --data``), which makes the live forecasts surer.
        """
        self._contexts = None if contexts is None else contexts_of(contexts)
        self._tokenizer, self._dataset, self._sample, self._seed = tokenizer, dataset, sample, seed
        # what is wrong with terms and settings is told here, not when training begins
        self._terms = None if terms is None else TermsToWatch.of(terms, dataset, allowed, asking, sample, seed)
        self._rule = SaturationRule(**rule) if isinstance(rule, Mapping) else rule
        Watch(stop, self._rule, fraction, criterion)
        self._options: dict[str, Any] = {
            "out": None if out is None else str(out), "every": every, "max_overhead": max_overhead,
            "criterion": criterion, "stop": stop, "fraction": fraction, "geometry": geometry, "top_p": top_p,
            "per_context": per_context, "forecast": None if forecast is None else str(forecast),
        }  # fmt: skip
        self._saved: Mapping[str, Any] | None = None
        self._handler: CallbackHandler | None = None
        self._logged, self._over = -1, False
        self._unshown: dict[str, float] | None = None
        self._said = ""
        self.tracker: Tracker | None = None
        self.verdicts: list[dict[str, Any]] = []

    def __repr__(self) -> str:
        """Say it in a line."""
        return f"<{type(self).__name__}: {self.tracker or 'training has not begun'}>"

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, in the form that transformers asks for."""
        contexts = None if self._contexts is None else [context.to_json() for context in self._contexts]
        terms = None if self._terms is None else [asdict(term) for term in self._terms.terms]
        arguments = {"contexts": contexts, "terms": terms, "sample": self._sample, "seed": self._seed, **self._options}
        arguments["rule"] = None if self._rule is None else asdict(self._rule)
        saved = self._saved if self.tracker is None else self.tracker.state()
        return {"args": arguments, "attributes": {"_saved": saved}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **host: Any) -> None:
        """Measure the contexts before the first step, or go on from a checkpoint.

        Raises:
            UserError: there is no tokenizer.
        """
        tokenizer = self._tokenizer or host.get("processing_class")
        if tokenizer is None:
            raise UserError("no tokenizer", rule="the Trainer's processing_class, or tokenizer= of the callback")
        tokenizer = tokenizer_of(tokenizer)
        self.close()
        self._handler, self._over, self._logged = _caller(), False, -1
        saved = self._checkpointed(state)
        facts = {"host": "transformers.Trainer", "arguments": args.to_sanitized_dict()}
        facts["learning_rates"] = learning_rates(host.get("optimizer"))
        targets = self._contexts
        if targets is None and self._terms is None:
            targets = stored_contexts(saved) if saved else self._targets(host, tokenizer)
        options = self._options | {"rule": self._rule, "optimizers": (host.get("optimizer"),), "terms": self._terms}
        if host.get("optimizer") is not None and state.max_steps > 0:
            left = state.max_steps - state.global_step
            options["rates"] = planned_rates(host["optimizer"], host.get("lr_scheduler"), left)
        self.tracker = Tracker(host["model"], tokenizer, targets, host=facts, state=saved, **options)
        if saved is None:
            self._log(self.tracker.metrics(), args, state, control)
            self._show(args, state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Probe if it is time to; where the host evaluates, the stopping rules wait for its evaluations."""
        if self.tracker is not None:
            evaluate = None if args.eval_strategy == "no" else False
            last = state.global_step >= state.max_steps or control.should_training_stop
            self._log(self.tracker.step(state.global_step, evaluate=evaluate, last=last), args, state, control)
            if control.should_log or last:
                self._show(args, state, control)
            self._stop(control)
        return control

    def on_evaluate(self, args: Any, state: Any, control: Any, **host: Any) -> Any:
        """Put the metrics into the evaluation's, for early stopping and the choice of the best model."""
        if self.tracker is not None:
            step = state.global_step
            # after the training the model may be the best one, which the host has loaded: no record of this run
            found = self.tracker.look() if self._over else self.tracker.step(step, force=True, evaluate=True)
            injected = {f"eval_{name}": value for name, value in found.items()}
            host["metrics"].update(injected)
            self._log(injected, args, state, control)
            self._show(args, state, control)
            if not self._over:
                self._stop(control)
        return control

    def on_save(self, *_: Any, **__: Any) -> None:
        """Bring the RUN up to date with a checkpoint."""
        if self.tracker is not None:
            self.tracker.save()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure the end, judge the run, write the RUN, and say how it ended.

        Where the host has just loaded its best model, the end stays what was measured at the last step.
        """
        if self.tracker is None:
            return
        reloaded = args.load_best_model_at_end and state.best_model_checkpoint is not None
        self.verdicts, self._over = self.tracker.finish(measure=not reloaded), True
        if self._logged != state.global_step:
            self._log(self.tracker.metrics(), args, state, control)
        self._show(args, state, control)
        if state.is_world_process_zero:
            tqdm.write(self.tracker.summary())

    def close(self) -> None:
        """Let others write the RUN of a training that was broken off; training again does so by itself."""
        if self.tracker is not None:
            self.tracker.close()

    def _checkpointed(self, state: Any) -> Mapping[str, Any] | None:
        if state.global_step == 0:
            return None
        entry = self._entry(state.stateful_callbacks.get(type(self).__name__))
        saved = entry.get("attributes", {}).get("_saved") or self._saved
        if saved is None:
            text = "the checkpoint holds no state of this callback: the base of this run is the model as it was resumed"
            warnings.warn(text, BornGapWarning, stacklevel=2)
        return saved

    def _entry(self, kept: Any) -> Mapping[str, Any]:
        """What a checkpoint keeps of this callback: of several of its class the host keeps a list that grows."""
        if not isinstance(kept, list):
            return kept or {}
        callbacks = [] if self._handler is None else self._handler.callbacks
        alike = [callback for callback in callbacks if type(callback) is type(self)]
        return kept[len(kept) - len(alike) + alike.index(self)] if self in alike else kept[-1]

    def _targets(self, host: Mapping[str, Any], tokenizer: Any) -> list[Target]:
        loader = host["train_dataloader"]
        dataset = loader.dataset if self._dataset is None else _same_columns(self._dataset, loader.dataset)
        if type(dataset).__module__.startswith("trl."):  # iterating would take what the training is waiting for
            refuse(f"a {type(dataset).__name__}, filled while it trains")
        options = {"collate": loader.collate_fn, "seed": self._seed, "apart": keeps_apart(host["model"])}
        return sample_targets(dataset, tokenizer, 8 if self._sample is None else self._sample, **options)

    def _log(self, metrics: Mapping[str, float], args: Any, state: Any, control: Any) -> None:
        """Write into the host's history and to its reporters, leaving its own logging as it was.

        Trainer.log would do, but the Trainer is not handed to callbacks, TRL's flushes its own averages with it, and
        on_log clears the flag by which the host's next log is due.
        """
        if not metrics:
            return
        entry = dict(metrics) if state.epoch is None else dict(metrics) | {"epoch": state.epoch}
        state.log_history.append(entry | {"step": state.global_step})
        self._logged, self._unshown = state.global_step, entry
        self._tell(entry, False, args, state, control)

    def _show(self, args: Any, state: Any, control: Any) -> None:
        """Give the terminal what fits a line of the last record, when the host shows its own numbers there."""
        if self._unshown is not None:
            short = {name: value for name, value in self._unshown.items() if _name(name) in _PRINTED | {"epoch"}}
            self._tell(short, True, args, state, control)
            self._unshown = None
            self._foretell(state)

    def _foretell(self, state: Any) -> None:
        """Say where the words will stand at the end: in the host's progress bar, and in a line where it changed."""
        found = None if self.tracker is None else self.tracker.forecast
        if found is None or not state.is_world_process_zero:
            return
        for callback in getattr(self._handler, "callbacks", ()):
            bar: Any = getattr(callback, "training_bar", None)
            if hasattr(bar, "set_postfix_str"):
                bar.set_postfix_str(found.brief)
        if found.outcome != self._said:
            self._said = found.outcome
            tqdm.write(f"borngap: {found}")

    def _tell(self, entry: dict[str, float], printing: bool, args: Any, state: Any, control: Any) -> None:
        if self._handler is None:
            return
        due, callbacks = control.should_log, self._handler.callbacks
        self._handler.callbacks = [callback for callback in callbacks if _prints(callback) == printing]
        self._handler.on_log(args, state, control, entry)
        control.should_log, self._handler.callbacks = due, callbacks

    def _stop(self, control: Any) -> None:
        if self.tracker is not None and self.tracker.stop_reason is not None:
            control.should_training_stop = True


def _same_columns(dataset: Any, trained: Any) -> Any:
    """Leave out the columns that the host took out of its own data, which its collator can't read."""
    wanted, there = (getattr(data, "column_names", None) for data in (trained, dataset))
    return dataset.select_columns([name for name in there if name in wanted]) if wanted and there else dataset


def _name(metric: str) -> str:
    return metric.removeprefix("eval_").removeprefix(f"{PREFIX}/")


def _prints(callback: Any) -> bool:
    """Whether a callback of the host only prints to the terminal; reporters take everything."""
    return any(kind.__name__ in _PRINTERS for kind in type(callback).__mro__)


def _caller() -> CallbackHandler | None:
    """The handler that called the callback: the way to the host's reporters, which it does not hand over."""
    frame = sys._getframe(1)
    while frame is not None:
        handler = frame.f_locals.get("self")
        if isinstance(handler, CallbackHandler):
            return handler
        frame = frame.f_back  # type: ignore[assignment]
    warnings.warn("not called by a Trainer: metrics go to log_history only", BornGapWarning, stacklevel=3)
    return None
