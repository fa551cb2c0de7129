"""BornGapLightning: a Tracker inside Lightning's Trainer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from borngap.context import Context
from borngap.errors import UserError
from borngap.live.doses import planned_rates
from borngap.track.hostfacts import learning_rates
from borngap.track.tracker import Tracker

_IN_BAR = "born_gap/forecast/ahead"


class BornGapLightning(Callback):
    """Watches contexts while Lightning trains: ``Trainer(callbacks=[BornGapLightning(contexts, tokenizer)])``.

    Metrics go to every logger of the Trainer under ``born_gap/...`` at the step they were taken, and into
    ``callback_metrics``, where they can drive ``EarlyStopping`` and ``ModelCheckpoint``. The state takes part in
    checkpoints.

    Attributes:
        tracker: measures; None before training, and readable after it (``tracker.cost``, ``tracker.records``).
        verdicts: what became of each context, once training is over.
    """

    def __init__(
        self,
        contexts: Sequence[Context] | str | Path | None,
        tokenizer: Any,
        *,
        model: str | None = None,
        out: str | Path | None = None,
        **options: Any,
    ) -> None:
        """Say what to watch; nothing is measured before training begins.

        Args:
            contexts: contexts, mappings of their fields, or what ``read_contexts`` takes; None where only
                terms are watched.
            tokenizer: the model's tokenizer.
            model: name of the LightningModule's attribute that holds the causal LM; found unless given.
            out: the RUN folder; nothing is written without.
            options: ``terms``, ``dataset``, ``allowed``, ``asking``, ``sample``, ``seed``, ``every``,
                ``max_overhead``, ``criterion``, ``stop``, ``fraction``, ``rule``, ``geometry``, ``top_p``,
                ``per_context`` and ``forecast`` of ``Tracker``.
        """
        self._contexts, self._tokenizer, self._attribute = contexts, tokenizer, model
        self._options = {"out": out, **options}
        self._saved: Mapping[str, Any] | None = None
        self._logged = -1
        self.tracker: Tracker | None = None
        self.verdicts: list[dict[str, Any]] = []

    def __repr__(self) -> str:
        """Say it in a line."""
        return f"<{type(self).__name__}: {self.tracker or 'training has not begun'}>"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the contexts before the first step, or go on from a checkpoint."""
        model = _causal_lm(pl_module, self._attribute)
        facts: dict[str, Any] = {
            "host": "lightning.Trainer",
            "max_steps": trainer.max_steps,
            "max_epochs": trainer.max_epochs,
        }
        facts["learning_rates"] = learning_rates(*trainer.optimizers)
        saved = self._saved if trainer.global_step else None
        options = self._options | {"optimizers": trainer.optimizers, "rates": _rates(trainer)}
        self.tracker = Tracker(model, self._tokenizer, self._contexts, host=facts, state=saved, **options)
        self._logged = -1
        if saved is None:
            self._log(trainer, self.tracker.metrics())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Probe if a step was done and it is time to."""
        del pl_module, outputs, batch, batch_idx
        if self.tracker is None:
            return
        last = trainer.global_step == trainer.max_steps
        self._log(trainer, self.tracker.step(trainer.global_step, last=last))
        if self.tracker.stop_reason is not None:
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the end, judge the run, write the RUN, and say how it ended."""
        del pl_module
        if self.tracker is not None:
            self.verdicts = self.tracker.finish()
            if self._logged != trainer.global_step:
                self._log(trainer, self.tracker.metrics())
            rank_zero_info(self.tracker.summary())

    def on_exception(self, *_: Any, **__: Any) -> None:
        """Let others write the RUN of a training that was broken off."""
        if self.tracker is not None:
            self.tracker.close()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"tracker": self._saved if self.tracker is None else self.tracker.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self._saved = state_dict["tracker"]

    def _log(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """Log at once: Lightning's own ``log`` would keep only every 50th step."""
        if not metrics:
            return
        self._logged = trainer.global_step
        for logger in trainer.loggers:
            logger.log_metrics(dict(metrics), step=trainer.global_step)
        for name, value in metrics.items():
            trainer.callback_metrics[name] = torch.tensor(value)
            if name == _IN_BAR:
                trainer.progress_bar_metrics[name] = value


def _rates(trainer: Trainer) -> list[float] | None:
    """Rates of the steps to come; None where several optimisers train or the run has no end."""
    total, configs = trainer.estimated_stepping_batches, trainer.lr_scheduler_configs
    if len(trainer.optimizers) != 1 or not math.isfinite(total):
        return None
    config = configs[0] if configs else None
    every = 1 if config is None else int(config.frequency)
    if config is not None and config.interval == "epoch":
        every *= max(1, int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
    scheduler = None if config is None else config.scheduler
    return planned_rates(trainer.optimizers[0], scheduler, int(total) - trainer.global_step, every=every)


def _causal_lm(module: LightningModule, attribute: str | None) -> Any:
    if attribute is not None:
        return getattr(module, attribute)
    found = [name for name, child in module.named_children() if hasattr(child, "get_output_embeddings")]
    if len(found) != 1:
        fix = "name it: BornGapLightning(..., model='...')"
        raise UserError(
            "which attribute is the causal LM is not clear", rule="one that has an LM head", found=found, fix=fix
        )
    return getattr(module, found[0])
