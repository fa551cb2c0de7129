"""Models and tokenizers: by name, from a folder, a GGUF file or the Hugging Face hub; no pickle, no remote code."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMultimodalLM, AutoTokenizer
from transformers.models.auto import modeling_auto

from borngap.errors import UserError
from borngap.model.adapters import adapter_of
from borngap.model.gguffile import describe, make_ordinary, reading_from, split_as_stored, splitting_notes
from borngap.model.precision import float32_fits, name_of, precision_notes, precision_of
from borngap.model.sources import ModelSource, is_gguf, locate, read
from borngap.model.vocabulary import tokenizer_of, vocabulary_of
from borngap.training import DTYPES


@dataclass(frozen=True)
class Loaded:
    """A model ready to be observed.

    Attributes:
        name: as the user gave it.
        model: the causal LM, in eval mode.
        tokenizer: its tokenizer; of a processor its tokenizer is kept.
        notes: what a reader must know of how it was loaded.
        stored: dtype of the checkpoint, or the formats that its weights were dequantised from; None if it does not say.
    """

    name: str
    model: Any
    tokenizer: Any
    notes: tuple[str, ...] = ()
    stored: str | None = None

    def __post_init__(self) -> None:
        """Keep a processor's tokenizer."""
        object.__setattr__(self, "tokenizer", tokenizer_of(self.tokenizer))

    def __repr__(self) -> str:
        """Say it in a line: a model's own repr fills pages."""
        size = sum(p.numel() for p in self.model.parameters()) / 1e6
        notes = f"; notes: {len(self.notes)}" if self.notes else ""
        where = f"{str(self.model.dtype).removeprefix('torch.')} on {self.model.device}"
        return f"<Loaded {self.name}: {type(self.model).__name__}, {size:.3g} M parameters, {where}{notes}>"


def load(name: str, device: str = "cpu", dtype: str | None = None, revision: str | None = None) -> Loaded:
    """Load a causal LM and its tokenizer.

    Args:
        name: a bundled or fetched name, a local folder (a model, or a PEFT adapter), a GGUF file, or a hub id.
        device: torch device.
        dtype: of the weights, one of ``DTYPES``; ``auto`` keeps the checkpoint's. By default float32, unless that needs
            more than half of the free memory: then weights of 16 bit stay so. The last norm and the head's product are
            done in float32 in any case.
        revision: branch, tag or commit of a hub repository.

    Returns:
        Model and tokenizer.

    Raises:
        UserError: there is no such model, it is not a causal LM, its weights are pickled, it needs code from the
            hub, its tokenizer does not fit, or the device or dtype is unknown.
    """
    if dtype not in {None, *DTYPES}:
        raise UserError("unknown dtype", rule=f"one of {', '.join(DTYPES)}", found=dtype)
    target = _device(device)
    model, notes, stored = _model(name, revision, dtype, target)
    return _fitting(Loaded(name, model.to(target).eval(), load_tokenizer(name, revision), notes, stored))


def load_tokenizer(name: str, revision: str | None = None) -> Any:
    """Load the tokenizer of a model.

    Args:
        name: a bundled or fetched name, a local folder, a GGUF file, or a hub id; of an adapter without a tokenizer its
            base model's is taken.
        revision: branch, tag or commit of a hub repository.

    Returns:
        The Hugging Face tokenizer.
    """
    source = locate(name)
    adapter = adapter_of(name, source, revision)
    if adapter is not None and not adapter.has_tokenizer:
        return load_tokenizer(adapter.base, adapter.config.revision)
    source = source if adapter is None else adapter.folder
    with reading_from(source, revision) as (place, options):
        tokenizer = tokenizer_of(read(name, lambda: AutoTokenizer.from_pretrained(place, **options), "tokenizer of"))
    if is_gguf(source):
        split_as_stored(tokenizer, Path(source))
    return tokenizer


def new_model(family: str, config: dict[str, Any]) -> Any:
    """Make a randomly initialised causal LM in float32 from a transformers model type and its settings."""
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **config), dtype=torch.float32)


def model_facts(loaded: Loaded) -> dict[str, Any]:
    """Return what a reader must know of a model: size, dtype, tied or not, what its readout is made of, versions."""
    from borngap import __version__
    from borngap.model.readout import geometry_of, readout_of

    model, readout = loaded.model, readout_of(loaded.model)
    rows, dimension = readout.output.weight.shape
    tokens = vocabulary_of(loaded.tokenizer, rows)
    geometry = geometry_of(model, "readout", loaded.tokenizer, readout)
    return {
        "name": loaded.name,
        "family": model.config.model_type,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": len(tokens.ids),
        "rows": rows,
        "dimension": dimension,
        "tied": readout.tied,
        **precision_of(model),
        "stored_dtype": loaded.stored,
        "device": str(model.device),
        "readout": list(readout.output.parts),
        "bias": readout.output.bias is not None,
        "notes": [
            *loaded.notes,
            *precision_notes(model, loaded.stored),
            *readout.notes,
            *geometry.notes,
            *tokens.notes,
        ],
        "versions": {
            "borngap": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def quiet() -> None:
    """Silence transformers' progress bars and advice; for programs that print their own."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def _dtype(host: Any, config: Any, device: torch.device) -> str:
    """Float32 for weights of 16 bit, if they fit; others are used as they are, and so are quantised ones."""
    if _stored(config) in {"float32", "float64"} or getattr(config, "quantization_config", None) is not None:
        return "auto"
    with torch.device("meta"):
        empty = host.from_config(copy.deepcopy(config))
    return "float32" if float32_fits(sum(p.numel() for p in empty.parameters()), device) else "auto"


def _stored(config: Any) -> str | None:
    if blocks := getattr(config, "dequantised_from", None):
        return str(blocks)
    dtype = getattr(config.get_text_config(), "dtype", None) or getattr(config, "dtype", None)
    return name_of(dtype) if isinstance(dtype, torch.dtype) else dtype


def _device(device: str) -> torch.device:
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:
        found = f"{device!r} ({str(error).splitlines()[0]})"
        raise UserError(
            "unknown or missing device", found=found, fix="use cpu, or cuda on a machine with a GPU"
        ) from None
    return target


def _model(
    name: str, revision: str | None, dtype: str | None, device: torch.device
) -> tuple[Any, tuple[str, ...], str | None]:
    """Read a model, of an adapter its base and then the adapter; what the user must know; the checkpoint's dtype."""
    source = locate(name)
    adapter = adapter_of(name, source, revision)
    if adapter is None:
        model, stored = _checkpoint(name, source, revision, dtype, device)
        return model, splitting_notes(Path(source)) if is_gguf(source) else (), stored
    try:
        base, before, stored = _model(adapter.base, adapter.config.revision, dtype, device)
    except UserError as error:
        what = f"the base model of the adapter {name!r} can't be loaded: {error.what}"
        fix = error.fix or "put it there, or correct base_model_name_or_path in adapter_config.json"
        raise UserError(what, rule=error.rule, found=error.found, fix=fix) from error
    model, notes = adapter.onto(base, load_tokenizer(name, revision) if adapter.has_tokenizer else None)
    return model, before + notes, stored


def _checkpoint(
    name: str, source: ModelSource, revision: str | None, dtype: str | None, device: torch.device
) -> tuple[Any, str | None]:
    """Read a checkpoint by the class that reads all of it; weights that are missing would be random."""
    with reading_from(source, revision) as (place, options):
        config = read(name, lambda: AutoConfig.from_pretrained(place, **options))
        host = _host_of(name, config)
        if is_gguf(source):
            options.update(describe(Path(source), config))
        options.update(dtype=dtype or read(name, lambda: _dtype(host, config, device)), use_safetensors=True)
        options.update(output_loading_info=True, ignore_mismatched_sizes=True)
        model, info = read(name, lambda: host.from_pretrained(place, **options))
    if is_gguf(source):
        make_ordinary(model, Path(source))
    _check_whole(name, info)
    if host is not AutoModelForCausalLM:
        _check_forward(name, model.eval())
    return model, _stored(config)


def _host_of(name: str, config: Any) -> Any:
    kind = config.model_type
    causal = kind in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    masked = kind in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    two = any(getattr(part, "is_encoder_decoder", False) for part in (config, *_parts(config)))
    if not two and not masked and causal:
        return AutoModelForCausalLM
    if not two and not causal and kind in modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES:
        return AutoModelForMultimodalLM
    what = "an encoder-decoder" if two else "an encoder" if masked else "no causal LM"
    rule = "a causal language model, one that predicts the next token"
    raise UserError(f"{name!r} is {what}", rule=rule, found=f"model type {kind!r}")


def _parts(config: Any) -> list[Any]:
    return [getattr(config, name, None) for name in getattr(config, "sub_configs", {})]


def _check_whole(name: str, info: dict[str, Any]) -> None:
    odd = {
        "no weights for": sorted(info["missing_keys"]),
        "weights of another shape for": sorted(key for key, *_ in info["mismatched_keys"]),
    }
    for what, keys in odd.items():
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise UserError(
                f"the weights of {name!r} do not fit its configuration",
                rule="every parameter of the model is in the checkpoint, in its shape",
                found=f"{what} {', '.join(keys[:3])}{more}",
                fix="save it again with save_pretrained() from the model that it was trained as",
            )


def _check_forward(name: str, model: Any) -> None:
    """Check that a model that sees too reads text alone, and from left to right, as its inner causal LM does."""
    try:
        with torch.no_grad():
            first, second = (model(input_ids=torch.tensor([[9, 8, last]])).logits[0, 0] for last in (7, 10))
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        rule = "a model that takes text without images or sound"
        found = str(error).strip().partition("\n")[0]
        raise UserError(f"{name!r} does not read text alone", rule=rule, found=found) from error
    if not torch.allclose(first, second, atol=1e-4):
        rule = "a causal language model: what it says of a token depends on those before it only"
        raise UserError(f"{name!r} reads ahead within its prompt", rule=rule, found=f"model {type(model).__name__}")


def _fitting(loaded: Loaded) -> Loaded:
    rows = loaded.model.get_input_embeddings().weight.shape[0]
    tokens = vocabulary_of(loaded.tokenizer, rows)
    ordinary = [i for i in tokens.rowless if i not in tokens.special]
    if ordinary or not tokens.ids:  # added tokens that were never trained do no harm while nobody uses them
        raise UserError(
            f"the tokenizer of {loaded.name!r} does not fit its model",
            rule="every token has an embedding row",
            found=f"{len(ordinary)} tokens without one, ids up to {max(tokens.rowless)}, {rows} rows",
            fix="load the tokenizer that the model was trained with, or resize the embeddings and train them",
        )
    return loaded
