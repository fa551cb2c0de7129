"""Models and tokenizers: bundled, in a local folder, or on the Hugging Face hub. Safetensors only, no remote code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto import modeling_auto

from borngap.errors import UserError
from borngap.hf.vocabulary import vocabulary_of
from borngap.zoo import bundled_names, bundled_path

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5")


@dataclass(frozen=True)
class Loaded:
    """A model ready to be observed.

    Attributes:
        name: as the user gave it.
        model: the causal LM, in eval mode.
        tokenizer: its tokenizer.
    """

    name: str
    model: Any
    tokenizer: Any


def load(name: str, device: str = "cpu", dtype: str = "auto") -> Loaded:
    """Load a causal LM and its tokenizer.

    Args:
        name: a bundled name, a local folder (a model, or a PEFT adapter), or a hub id.
        device: torch device.
        dtype: ``auto`` keeps the checkpoint's.

    Returns:
        Model and tokenizer.

    Raises:
        UserError: there is no such model, it is not a causal LM, its weights are pickled, it needs code from the
            hub, its tokenizer does not fit, or the device is unknown.
    """
    target = _device(device)
    path = _locate(name)
    if isinstance(path, Path) and (path / "adapter_config.json").is_file():
        return _load_adapter(name, path, device, dtype)
    config = _read(name, lambda: AutoConfig.from_pretrained(path, trust_remote_code=False))
    _check_causal(name, config)
    options = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    model = _read(name, lambda: AutoModelForCausalLM.from_pretrained(path, **options)).to(target).eval()
    return _fitting(Loaded(name, model, load_tokenizer(name)))


def load_tokenizer(name: str) -> Any:
    """Load the tokenizer of a model.

    Args:
        name: a bundled name, a local folder, or a hub id.

    Returns:
        The Hugging Face tokenizer.
    """
    return _read(name, lambda: AutoTokenizer.from_pretrained(_locate(name), trust_remote_code=False))


def new_model(family: str, config: dict[str, Any]) -> Any:
    """Make a randomly initialised causal LM in float32 from a transformers model type and its settings."""
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **config), dtype=torch.float32)


def summary(loaded: Loaded) -> dict[str, Any]:
    """Return what a reader must know of a model: size, dtype, tied or not, what its readout is made of, versions."""
    from borngap import __version__
    from borngap.hf.readout import geometry_of, readout_of

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
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "readout": list(readout.output.parts),
        "bias": readout.output.bias is not None,
        "notes": [*readout.notes, *geometry.notes, *tokens.notes],
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


def _locate(name: str) -> Path | str:
    if name in bundled_names():
        return bundled_path(name)
    path = Path(name).expanduser()
    if path.is_dir():
        return _check_folder(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or path.exists():
        raise UserError("no model there", rule="a folder with config.json and *.safetensors", found=name)
    return name


def _check_folder(path: Path) -> Path:
    if (path / "adapter_config.json").is_file():
        weights = "adapter_model.safetensors"
    elif (path / "config.json").is_file():
        weights = "*.safetensors"
    else:
        found = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "an empty folder"
        raise UserError(f"no model in {path}", rule="a folder with config.json and *.safetensors", found=found)
    if not any(path.glob(weights)):
        pickled = sorted(p.name for pattern in _PICKLES for p in path.glob(pattern))
        found = f"pickled weights only: {', '.join(pickled)}" if pickled else "no weights"
        fix = "convert them: load the model you trust with transformers and call save_pretrained()" if pickled else None
        raise UserError(
            f"no safetensors weights in {path}", rule="weights are read from safetensors only", found=found, fix=fix
        )
    return path


def _read(name: str, reader: Any) -> Any:
    """Call a from_pretrained, turning its many errors into one."""
    try:
        return reader()
    except UserError:
        raise
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"can't load the model {name!r}",
            rule="a bundled name, a local folder, or a hub id that is reachable (HF_HUB_OFFLINE unset) or cached",
            found=first,
            fix=f"check the spelling and the network; bundled models: {', '.join(bundled_names())}",
        ) from error


def _check_causal(name: str, config: Any) -> None:
    kind = config.model_type
    causal = kind in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    masked = kind in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    if config.is_encoder_decoder or not causal or masked:
        what = "an encoder-decoder" if config.is_encoder_decoder else "an encoder" if masked else "no causal LM"
        rule = "a causal language model, one that predicts the next token"
        raise UserError(f"{name!r} is {what}", rule=rule, found=f"model type {kind!r}")


def _load_adapter(name: str, path: Path, device: str, dtype: str) -> Loaded:
    from peft import PeftModel

    config = path / "adapter_config.json"
    base_name = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base_name:
        rule = "its configuration has base_model_name_or_path"
        raise UserError("the adapter names no base model", rule=rule, found=str(config))
    base = load(base_name, device, dtype)
    model = _read(name, lambda: PeftModel.from_pretrained(base.model, path, use_safetensors=True))
    return _fitting(Loaded(name, model.to(base.model.device).eval(), base.tokenizer))


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
