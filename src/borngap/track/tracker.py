"""Tracker: watches contexts in anybody's training loop, within a budget of time, and leaves a RUN folder."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from borngap.choices import DEFAULT_TOP_P, Criterion, HostStop, Kind
from borngap.context import Context, Target, contexts_of
from borngap.errors import UserError
from borngap.judge.stopping import EVALUATION, SaturationRule
from borngap.judge.trajectory import from_records
from borngap.judge.watch import Watch, judge
from borngap.live.live import Live, LiveForecast
from borngap.model.forward import forward
from borngap.model.precision import full_float32, precision_of
from borngap.model.probe import named
from borngap.model.readout import geometry_of
from borngap.model.vocabulary import tokenizer_of
from borngap.runfolder import Store, environment
from borngap.track.alarms import Alarms
from borngap.track.clock import Clock, Cost
from borngap.track.hostfacts import BornGapWarning, described, warn_of_low_precision
from borngap.track.lastwords import closing, of_usage
from borngap.track.metrics import PREFIX, averages, of_terms, singles
from borngap.track.ranks import of_rank_0, own_rank
from borngap.track.watched import TermsToWatch, taken_up, to_watch
from borngap.train.averaged import evaluated
from borngap.train.finetune import weights_digest
from borngap.train.observe import LIGHT_IDS, Follower, Observer, Record
from borngap.usage.asking import Asking


class Tracker:
    """Watches contexts while something else trains the model. ``Tracker(...)``, then ``tracker.step(step)`` a step.

    Every probe is a forward of its own without gradients; mode and random state are restored, and nothing is left in
    the model. Under ``torch.distributed`` all ranks take part and rank 0 decides when.
    """

    @full_float32()
    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        contexts: Sequence[Context | Target] | str | Path | None = None,
        *,
        terms: Any = None,
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
        rule: SaturationRule | None = None,
        geometry: Kind = "readout",
        top_p: float = DEFAULT_TOP_P,
        per_context: bool = False,
        forecast: str | Path | None = None,
        rates: Sequence[float] | None = None,
        optimizers: Sequence[Any] = (),
        host: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """Measure the contexts before the first step, or take up an interrupted run.

        Args:
            model: a Hugging Face causal LM with adapters in place and requires_grad set.
            tokenizer: its tokenizer.
            contexts: contexts or targets, mappings of contexts' fields, or what ``read_contexts`` takes; none are
                needed where there are terms.
            terms: a file of terms, or a sequence of pairs, the wanted word first: success and over-use are followed
                over a sample of their places.
            dataset: rows in which these places are looked for, such as held-out ones: a path, a hub name, a
                ``datasets`` object, a sequence of texts or mappings, of token ids too.
            allowed: where words to avoid are right, as ``borngap.terms`` takes it.
            asking: how the rows are read, or the fields of that: ``{"allowed_field": "allowed"}``.
            sample: how many places; 64 unless given.
            seed: seeds their choice.
            out: the RUN folder; nothing is written without.
            every: steps between probes; chosen by cost unless given.
            max_overhead: time for probes over the host's own time, in (0, 1]; both ends of the run come on top.
            criterion: what counts as resolved.
            stop: what gives a ``stop_reason``: ``saturation``, ``structural`` failure, ``resolved``, gold ahead by the
                criterion for the rule's patience, or ``hopeless``, what lags is forecast to stay behind; ``none``.
            fraction: share of contexts that must be saturated (of the resolvable ones) or resolved (of all), or, of the
                words that lag, must be forecast to stay behind, in (0, 1].
            rule: the saturation rule; the default one unless given.
            geometry: geometry matrix.
            top_p: nucleus mass.
            per_context: whether metrics of single contexts are returned beside the averages.
            forecast: FORECAST folder of this run, whose pilot makes the live forecasts surer.
            rates: learning rate of every step that is to come; without them the end is not forecast.
            optimizers: the host's; where one keeps the weights of training apart from those of evaluation
                (schedule-free), the latter are measured.
            host: what the RUN should say of the host, JSON-ready; reports read ``host``, its name, and
                ``learning_rates``, a list.
            state: ``state()`` of the interrupted run.

        Raises:
            UserError: a setting is out of range, a context does not fit, the RUN folder can't be used, or the
                interrupted run watches something else.
        """
        if not 0 < max_overhead <= 1:
            raise UserError("max_overhead is out of range", rule="0 < max_overhead <= 1", found=max_overhead)
        if every is not None and every < 1:
            raise UserError("every is out of range", rule="at least 1 step", found=every)
        self._model, self._every, self._budget, self._optimizers = model, every, max_overhead, tuple(optimizers)
        self._criterion, self._per_context = criterion, per_context
        tokenizer = tokenizer_of(tokenizer)
        given = [] if contexts is None else contexts_of(contexts)
        targets = [context if isinstance(context, Target) else named(context, tokenizer) for context in given]
        wanted = TermsToWatch.of(terms, dataset, allowed, asking, sample, seed) if terms is not None else None
        self._settings: dict[str, Any] = {
            "geometry": geometry, "top_p": top_p, "criterion": criterion, **precision_of(model),
            "terms": [term.words for term in wanted.terms] if wanted else [],
        }  # fmt: skip
        warn_of_low_precision(model)
        if state is not None:
            self._watched = taken_up(targets, self._settings, state)
        else:
            matrix = geometry_of(model, geometry, tokenizer)
            self._watched = to_watch(model, tokenizer, targets, wanted, matrix, top_p)
        if self._watched.no_over_use:
            text = f"over-use is not followed: {self._watched.no_over_use}"
            warnings.warn(text, BornGapWarning, stacklevel=2)
        chosen = self._watched.targets
        observer = Observer(model, tokenizer, chosen, geometry, top_p, LIGHT_IDS)
        self._follower = Follower(observer, dict(enumerate(chosen)), Watch(stop, rule, fraction, criterion))
        self._records: list[tuple[int, dict[int, Record]]] = []
        self._live = Live.of(self._watched.targets, self._watched.places, model, tokenizer, rates, forecast, state)
        self._spacing, self._widest = every or 1, every or 1
        self._alarms = Alarms(self._watched, self._follower.watch)
        self._clock, self._paced = Clock(model), False
        self._last_evaluation = self._last_step = self._ended = 0
        self._begun = state is not None
        digest = weights_digest(model) if state is None else state["weights"]
        self._plan = {
            "command": "track", "weights": digest, "contexts": [t.context.to_json() for t in chosen],
            "places": [asdict(place) for place in self._watched.places], **self._settings, "stop": stop,
            "every": every, "max_overhead": None if every else max_overhead,
        }  # fmt: skip
        self._out = out
        self._store = self._open(out, host, resumed=state is not None)
        try:
            if state is None:
                self._probe(0, evaluate=True, final=True)
            else:
                self._load(state)
        except BaseException:
            self.close()
            raise
        self._clock.start()

    @property
    def _device(self) -> torch.device:
        return self._follower.observer.start.matrix.device

    def __repr__(self) -> str:
        """Say it in a line."""
        metrics, share = self.metrics(), self.cost.share
        ahead = round(metrics[f"{PREFIX}/resolved"] * len(self._watched.counted))
        pace = f"every {self._spacing} step{'s' * (self._spacing != 1)}" + ("" if self._every else " by cost")
        took = "" if math.isnan(share) else f"; {100 * share:.1f} % of the training's time"
        what = "contexts" if self._watched.contexts else "places"
        said = f"{len(self._watched.counted)} {what} at step {self._last_step}, ahead by {self._criterion} in {ahead}"
        return f"<Tracker of {said}; {len(self._records)} records, {pace}{took}>"

    @property
    def cost(self) -> Cost:
        """What tracking took so far."""
        clock = self._clock
        return Cost(clock.probes, clock.spent, clock.training, self._spacing)

    @property
    def stop_reason(self) -> str | None:
        """Why the run may end now, by the rule that was chosen; None if it goes on."""
        return self._follower.watch.reason

    @property
    def forecast(self) -> LiveForecast | None:
        """Where the watched words will stand at the end, by the last look; None where nothing can be said."""
        return self._live.last

    @property
    def targets(self) -> list[Target]:
        """The targets, with rivals; places of terms are the last."""
        return list(self._follower.targets.values())

    @property
    def records(self) -> list[tuple[int, dict[int, Record]]]:
        """All probes: (step, context -> record)."""
        return self._records

    @full_float32()
    def step(
        self, step: int, *, force: bool = False, evaluate: bool | None = None, last: bool = False
    ) -> dict[str, float]:
        """Tell the tracker that so many optimiser steps are done; it probes if it is time to.

        Args:
            step: optimiser steps done; call it after each.
            force: probe in any case.
            evaluate: whether the stopping rules advance; at the first probe at least 5 steps after the last time
                unless given.
            last: whether no step follows: the end is measured now, with the expensive observables.

        Returns:
            Metrics by name, empty where nothing was measured.

        Raises:
            UserError: the step is smaller than the last one.
        """
        if step < self._last_step:
            raise UserError("steps went back", rule=f"at least {self._last_step}", found=step)
        advance = step - self._last_step
        # a tracker that begins in the middle of a run has seen one step of it, however high its number
        self._clock.tick(advance if self._begun else min(advance, 1))
        self._last_step, self._begun = step, True
        if advance and not self._paced:
            self._choose_spacing()
        due = evaluate if evaluate is not None else step - self._last_evaluation >= EVALUATION
        if last:
            self._probe(step, evaluate=due, final=True)
            return self.metrics()
        if self._records[-1][0] == step:
            if due and self._last_evaluation != step:
                self._evaluate(step)
            return self.metrics() if force else {}
        if not force and step % self._spacing:
            return {}
        self._probe(step, evaluate=due)
        self._choose_spacing()
        return self.metrics()

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the last probe: averages and worst margins over contexts, shares, single contexts.

        Places of terms count in success and over-use alone, but where nothing else is watched.
        """
        told = {} if self.forecast is None else {f"{PREFIX}/{k}": v for k, v in self.forecast.metrics.items()}
        return self._metrics(self._records[-1][1]) | told

    @full_float32()
    def look(self) -> dict[str, float]:
        """Measure the model as it is now, and return the metrics without recording them."""
        with evaluated(*self._optimizers):
            seen = forward(self._model, self.targets, finite=False)
            records = self._follower.observer.records(*seen)
        return self._metrics(dict(zip(self._follower.targets, records, strict=True)))

    def _metrics(self, records: Mapping[int, Record]) -> dict[str, float]:
        counted, saturation = self._watched.counted, self._follower.watch.saturation
        found = averages([records[i] for i in counted], self._criterion)
        found["saturated"] = sum(saturation[i].saturated for i in counted if i in saturation) / len(counted)
        found["overhead"] = self.cost.share
        found |= of_terms(self._watched.places, records, apart=self._per_context)
        if self._per_context:
            golds = {i: self._follower.targets[i].context.gold for i in self._watched.contexts}
            found |= singles({i: records[i] for i in golds}, golds)
        return {f"{PREFIX}/{name}": value for name, value in found.items() if not math.isnan(value)}

    @full_float32()
    def finish(self, *, measure: bool = True) -> list[dict[str, Any]]:
        """Measure the end of the run unless that is done, judge it, write the RUN, and let others write there.

        Args:
            measure: whether the model is still the one of the last step: not where the host loaded its best one.

        Returns:
            One JSON-ready entry a context: words, verdict, and what stopping on saturation would have saved.
        """
        if measure and (self._last_step == 0 or self._ended != self._last_step):
            self._probe(self._last_step, evaluate=False, final=True)
        entries = self.save()
        self.close()
        return entries

    def close(self) -> None:
        """Let others write the RUN, as ``finish`` does; for a run that was broken off."""
        if self._store is not None:
            self._store.close()

    def summary(self) -> str:
        """Return how the run ended, in a sentence, and the command that shows more."""
        entries = [self._judge(index) for index in self._watched.contexts]
        usage = of_usage(self._watched.places, self._records[0][1], self._records[-1][1])
        account, steps = self._follower.watch.account, self._records[-1][0]
        return closing(steps, entries, usage, self._criterion, self.cost.share, account, self._out)

    def save(self) -> list[dict[str, Any]]:
        """Judge the run as far as it went and write the RUN.

        Returns:
            The entries, as ``finish`` gives them.
        """
        entries = {i: self._judge(i) for i in self._follower.targets}
        if self._store is not None:
            rows = {i: [{"step": step} | records[i] for step, records in self._records] for i in entries}
            self._store.add(rows, entries)
            self._store.foretell(self._live.told)
        return [{"context": i} | entry for i, entry in entries.items()]

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep, JSON-ready but for numbers that are not finite."""
        return {
            "weights": self._plan["weights"],
            **self._watched.state(),
            "settings": self._settings,
            "start_rows": self._follower.observer.start_rows.tolist(),
            "records": [[step, {str(i): r for i, r in records.items()}] for step, records in self._records],
            "watch": self._follower.watch.state(),
            "last_evaluation": self._last_evaluation,
            "last_step": self._last_step,
            "widest": self._widest,
            "live": self._live.state(self._last_step, [step for step, _ in self._records]),
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self._records = [(step, {int(i): r for i, r in records.items()}) for step, records in state["records"]]
        self._follower.observer.restore(torch.tensor(state["start_rows"], dtype=torch.float64))
        self._follower.watch.load(state["watch"])
        self._last_evaluation, self._last_step = state["last_evaluation"], state["last_step"]
        self._widest = state["widest"]
        self._spacing = self._every or state["widest"]

    def _judge(self, index: int) -> dict[str, Any]:
        path = from_records([(step, records[index]) for step, records in self._records])
        return judge(self._follower.targets[index], path, self._criterion, self._widest, watched=True)

    def _probe(self, step: int, *, evaluate: bool, final: bool = False) -> None:
        """Measure all contexts; at both ends with expensive observables too."""
        with evaluated(*self._optimizers):
            with self._clock.probing():
                seen = forward(self._model, self.targets, finite=False)
                records = self._follower.look(*seen, evaluate=evaluate)
            self._complete(records, everything=final)
        self._keep(step, records)
        with self._clock.completing(0):
            self._live.look(self._records)
            self._follower.watch.foresee(self._live.last)
        self._ended = step if final else self._ended
        if evaluate:
            self._last_evaluation = step
        self._alarms.look(self._records)

    def _complete(self, records: dict[int, Record], *, everything: bool) -> None:
        """Measure expensive observables: at both ends, and at flips where what is left of the budget allows it."""
        contexts = [i for i in self._watched.contexts if everything or i in self._follower.events]
        count = len(contexts)
        left = self._budget * self._clock.training - self._clock.spent
        affordable = everything or self._every is not None or count * self._clock.expensive_seconds <= left
        if count and of_rank_0(int(affordable), self._device):
            with self._clock.completing(count):
                self._follower.complete(records, contexts)

    def _keep(self, step: int, records: dict[int, Record]) -> None:
        if self._records and self._records[-1][0] == step:
            self._records.pop()
        self._records.append((step, records))

    def _evaluate(self, step: int) -> None:
        self._follower.watch.update(self._records[-1][1], evaluate=True)
        self._last_evaluation = step
        self._alarms.look(self._records)

    def _choose_spacing(self) -> None:
        """Space probes so that one costs at most the budget; powers of 2, so that a coarser run of records is even."""
        self._paced = True
        if self._every is not None:
            return
        self._spacing = of_rank_0(self._clock.spacing(self._budget), self._device)
        self._widest = max(self._widest, self._spacing)

    def _open(self, out: str | Path | None, host: Mapping[str, Any] | None, *, resumed: bool) -> Store | None:
        if out is None or own_rank() != 0:
            return None
        store = Store(out, self._plan, environment() | {"host": {"model": described(self._model)} | dict(host or {})})
        if store.finished and not resumed:
            store.close()
            fix = "choose another folder with out="
            raise UserError(f"{out} holds a run already", rule="nothing is overwritten", fix=fix)
        return store
