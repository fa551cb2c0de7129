"""TRL's preference trainers of remedies.py: trained on one-word pairs after the run, with as many gradients again.

``dpo:BETA`` (DPOTrainer), ``orpo:BETA`` (ORPOTrainer), ``simpo:BETA`` (CPOTrainer with ``loss_type="simpo"``). Pairs
are those of ``borngap terms --export-pairs`` on the same training rows, base forms alone; a tenth of the run's rate, as
recipes have it (TRL's defaults: 2e-5 for SFT, 1e-6 for DPO). TRL puts an end-of-text token behind each word.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from pathlib import Path
from typing import Any

from borngap.data.source import source_of
from borngap.pilot.wholerun import RunJob
from borngap.usage.asking import Asking
from borngap.usage.exports.remedyfiles import RemedyFiles
from borngap.usage.exports.rowfiles import row_files

_SLOWER = 0.1
_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "dpo": ("DPO", {}),
    "orpo": ("ORPO", {}),
    "simpo": ("CPO", {"loss_type": "simpo", "cpo_alpha": 0.0}),
}


def preferring(kind: str, beta: float, model: Any, tokenizer: Any, job: RunJob, rows: list[Any], words: Any) -> Any:
    """Train a model on with a preference trainer.

    Args:
        kind: ``dpo``, ``orpo`` or ``simpo``.
        beta: its beta.
        model: as the run left it, adapters in place.
        tokenizer: its tokenizer.
        job: the run: steps, batch size, rate, seed.
        rows: the training rows.
        words: use and avoid.

    Returns:
        The model.
    """
    import trl
    from datasets import Dataset
    from transformers import PrinterCallback, ProgressCallback
    from trl.experimental import cpo, orpo

    name, more = _NAMES[kind]
    home = {"DPO": trl, "ORPO": orpo, "CPO": cpo}[name]
    config, trainer = (getattr(home, name + part) for part in ("Config", "Trainer"))
    training = job.plan.training
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        arguments = config(
            folder, max_steps=training.steps, per_device_train_batch_size=training.batch_size, beta=beta, use_cpu=True,
            learning_rate=_SLOWER * training.learning_rate, lr_scheduler_type=training.schedule, seed=training.seed,
            max_grad_norm=0.0, bf16=False, gradient_checkpointing=False, save_strategy="no", logging_strategy="no",
            report_to=[], disable_tqdm=True, **more,
        )  # fmt: skip
        pairs = Dataset.from_list(pairs_of_rows(tokenizer, rows, words, job.settings.max_length, Path(folder)))
        padded = copy.deepcopy(tokenizer)
        padded.pad_token = padded.pad_token or padded.eos_token
        host = trainer(model, args=arguments, train_dataset=pairs, processing_class=padded)
        for callback in (PrinterCallback, ProgressCallback):
            host.remove_callback(callback)
        host.train()
    return model.eval()


def pairs_of_rows(tokenizer: Any, rows: list[Any], words: Any, length: int, folder: Path) -> list[Any]:
    """Return the preference pairs of training rows, of base forms."""
    file = folder / "pairs.jsonl"
    plain = [{"use": use, "avoid": avoid, "inflected": False} for use, avoid in words]
    row_files(tokenizer, rows, plain, RemedyFiles(export_pairs=file), settings=Asking(max_length=length))
    return [row.value for row in source_of(str(file)).rows()]
