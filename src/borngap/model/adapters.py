"""PEFT adapters: their base model, their own tokenizer, and the rows that both need, as AutoPeftModelForCausalLM."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from borngap.errors import UserError
from borngap.model.sources import ADAPTER_CONFIG, ADAPTER_WEIGHTS, ModelSource, file_of, read
from borngap.model.vocabulary import vocabulary_of
from borngap.zoo import FETCHABLE, bundled_names

_TEXT_FILES = ("*.json", "*.jinja", "*.model", "*.txt")  # configurations and tokenizers
_TASKS = (None, "CAUSAL_LM")


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter that is yet to be put onto its base model.

    Attributes:
        name: as the user gave it.
        folder: where it lies, of a hub repository in the cache.
        config: PEFT's configuration.
    """

    name: str
    folder: Path
    config: Any

    @property
    def base(self) -> str:
        """Name of the base model, such as ``load`` takes; a relative path counts from here, else from the adapter."""
        base = str(self.config.base_model_name_or_path)
        if Path(base).expanduser().is_dir():
            return base
        if (self.folder / base).is_dir():
            return str(self.folder / base)
        # a model by name, of another installation
        return Path(base).name if Path(base).name in {*bundled_names(), *FETCHABLE} else base

    @property
    def has_tokenizer(self) -> bool:
        """Whether it comes with a tokenizer of its own."""
        return (self.folder / "tokenizer_config.json").is_file()

    def onto(self, base: Any, tokenizer: Any) -> tuple[Any, tuple[str, ...]]:
        """Put the adapter onto its base model, which gets the rows that adapter and tokenizer need.

        Args:
            base: the base model; changed.
            tokenizer: the adapter's own; None if it has none.

        Returns:
            The wrapped model, and what the user must know.

        Raises:
            UserError: it has no safetensors weights, or they do not fit the base model.
        """
        from peft import PeftModel

        weights = self.folder / ADAPTER_WEIGHTS
        if not weights.is_file():
            rule = f"{ADAPTER_WEIGHTS}: weights are read from safetensors only"
            raise UserError(f"no safetensors weights in the adapter {self.name!r}", rule=rule)
        notes = self._resize(base, tokenizer, weights)
        return read(self.name, lambda: PeftModel.from_pretrained(base, str(self.folder)), "adapter"), notes

    def _resize(self, base: Any, tokenizer: Any, weights: Path) -> tuple[str, ...]:
        rows = base.get_input_embeddings().weight.shape[0]
        saved = read(self.name, lambda: _saved_rows(weights, base), "adapter")
        beyond = [] if tokenizer is None else vocabulary_of(tokenizer, rows).rowless
        wanted = saved or max(rows, *(i + 1 for i in beyond), 0)
        if wanted == rows:
            return ()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # rows that the adapter does not hold are the host's guess, the same every time
            base.resize_token_embeddings(wanted)
        if saved:
            return (f"the base model's {rows} embedding rows were made the adapter's {wanted}",)
        return (f"{wanted - rows} rows were added for the adapter's tokenizer; those that it does not hold are random",)


def adapter_of(name: str, source: ModelSource, revision: str | None = None) -> Adapter | None:
    """Return the adapter that lies somewhere.

    Args:
        name: as the user gave it.
        source: a folder or a hub id.
        revision: of a hub repository.

    Returns:
        The adapter; None if there is none.

    Raises:
        UserError: its configuration can't be read, names no base model, or is of another task.
    """
    path = file_of(source, ADAPTER_CONFIG, revision)
    if path is None:
        return None
    from peft import PeftConfig

    folder = path.parent if isinstance(source, Path) else read(name, lambda: _fetched(source, revision), "adapter")
    config = read(name, lambda: PeftConfig.from_pretrained(str(folder)), "adapter")
    if not config.base_model_name_or_path:
        rule = "its configuration has base_model_name_or_path"
        raise UserError("the adapter names no base model", rule=rule, found=str(path))
    task = getattr(config.task_type, "value", config.task_type)
    if task not in _TASKS:
        rule = "an adapter of a causal language model, one that predicts the next token"
        raise UserError(f"the adapter {name!r} is made for another task", rule=rule, found=f"task type {task}")
    return Adapter(name, folder, config)


def _fetched(repository: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repository, revision=revision, allow_patterns=[ADAPTER_WEIGHTS, *_TEXT_FILES]))


def _saved_rows(weights: Path, base: Any) -> int | None:
    """Number of rows of the embedding or head that an adapter brings along; None if it brings neither."""
    modules = {id(module): path for path, module in base.named_modules()}
    owners = [modules[id(m)] for m in (base.get_input_embeddings(), base.get_output_embeddings()) if m is not None]
    with safe_open(weights, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118  # it is no mapping
            path = key.removeprefix("base_model.model.")
            owner = next((o for o in owners if path.startswith(f"{o}.")), None)
            axis = None if owner is None else _ROWS_IN.get(path.removeprefix(f"{owner}."))
            if axis is not None:
                return int(file.get_slice(key).get_shape()[axis])
    return None


# which axis of a saved tensor counts the rows of an embedding, or of a head
_ROWS_IN = {
    "weight": 0, "base_layer.weight": 0, "token_adapter.base_layer.weight": 0, "modules_to_save.weight": 0,
    "lora_embedding_A": 1, "lora_B.weight": 0,
}  # fmt: skip
