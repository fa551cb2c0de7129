"""Which layers are adapted: attention's query and value projections, found by name, or what the user names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from torch import nn

from borngap.errors import UserError

_QUERY = r"(q|query)(_proj|_lin|_b_proj)?|[wW]q|w_q|project_q|receptance"
_VALUE = r"(v|value)(_proj|_lin)?(_current|_delayed)?|[wW]v|w_v|project_v|kv_b_proj|kv_proj"
_FUSED = r"c_attn|query_key(_value)?|qkv(_proj)?|[wW]qkv|W_pack|in_proj_qkvz?|att_proj"
# a name may stand on a wrapper, its matrix within
_ATTENTION = re.compile(rf"(?:.*\.)?(?:{_QUERY}|{_VALUE}|{_FUSED}|\w*attn\w*\.in_proj)(?:\.linear)?")
_ELSEWHERE = re.compile(r"mlp|ffn|feed_forward|expert")
_OTHER_TOWERS = re.compile(r"vision|visual|image|audio|speech|video")

Layers = dict[str, nn.Module]


def targets_of(model: Any, names: Sequence[str]) -> list[str]:
    """Return the paths of the layers that the targets of LoRA and its kin stand for.

    Only layers of the language model count: of a model that sees or hears too, its other towers stay as they are.

    Args:
        model: a Hugging Face causal LM without adapters.
        names: ``attention`` (query and value projections, or the layer that holds both), ``mlp`` (the feed-forward
            layers), ``all-linear`` (all linear layers but the head, as PEFT's own), ``readout`` (the head), or names of
            layers or ends of their paths.

    Returns:
        Paths, in the model's order. A name that stands for no layer is an error, which lists those that there are.
    """
    layers, head = _layers(model), head_path(model)
    chosen: set[str] = set()
    for name in names:
        found = _GROUPS[name](layers, head) if name in _GROUPS else _named(layers, name)
        if not found:
            _refuse(name, layers, model.config.model_type)
        chosen.update(found)
    return [path for path in layers if path in chosen]


def layer_names(model: Any) -> str:
    """Return the names of a model's layers that can be adapted, a name for all blocks, in a line."""
    return ", ".join(sorted({_short(path) for path in _layers(model)}))


def head_path(model: Any) -> str:
    """Return the path of the module that holds the output matrix."""
    head = model.get_output_embeddings()
    return next(path for path, module in model.named_modules() if module is head)


def is_conv1d(module: nn.Module) -> bool:
    """Return whether a layer holds its weights as (in, out), as GPT-2's layers do."""
    return type(module).__name__ == "Conv1D"


def _attention(layers: Layers, head: str) -> list[str]:
    linear = _linear(layers, head)
    return [path for path in linear if _ATTENTION.fullmatch(path) and not _ELSEWHERE.search(path)]


def _linear(layers: Layers, head: str) -> list[str]:
    return [path for path, layer in layers.items() if path != head and not isinstance(layer, nn.Embedding)]


def _feed_forward(layers: Layers, head: str) -> list[str]:
    return [path for path in _linear(layers, head) if _ELSEWHERE.search(path)]


_GROUPS: dict[str, Callable[[Layers, str], list[str]]] = {
    "attention": _attention,
    "mlp": _feed_forward,
    "all-linear": _linear,
    "readout": lambda _, head: [head],
}


def _named(layers: Layers, name: str) -> list[str]:
    return [path for path in layers if path == name or path.endswith(f".{name}")]


def _layers(model: Any) -> Layers:
    """Path -> layer of everything in the language model that LoRA can adapt, the head included."""
    scope, head = _language(model), head_path(model)
    return {
        path: module
        for path, module in model.named_modules()
        if _is_layer(module) and (path == head or path.startswith(scope)) and not _OTHER_TOWERS.search(path)
    }


def _language(model: Any) -> str:
    """The beginning of the paths of the language model; empty where the whole model is one."""
    if model.config.get_text_config() is model.config:
        return ""
    decoder, embedding = model.get_decoder(), model.get_input_embeddings()
    if not any(module is embedding for module in decoder.modules()):
        return ""
    path = next(path for path, module in model.named_modules() if module is decoder)
    return f"{path}." if path else ""


def _is_layer(module: nn.Module) -> bool:
    if isinstance(module, (nn.Linear, nn.Embedding)) or is_conv1d(module):
        return True
    # quantised layers have classes of their own
    return "Linear" in type(module).__name__ and isinstance(getattr(module, "in_features", None), int)


def _refuse(name: str, layers: Layers, kind: str) -> NoReturn:
    known = ", ".join(sorted({_short(path) for path in layers}))
    if name == "attention":
        raise UserError(
            "no attention projections found to adapt",
            rule="linear layers with the names of query and value, such as q_proj",
            found=f"model type {kind!r}",
            fix=f"choose among mlp, all-linear, readout, {known}",
        )
    fix = f"choose among attention, mlp, all-linear, readout, {known}"
    raise UserError("no such module to adapt", rule="names of the model's layers", found=name, fix=fix)


def _short(path: str) -> str:
    """A path without what tells one block from another: its last part, or the last that is no number."""
    *before, last = path.split(".")
    return f"{before[-1]}.{last}" if last.isdigit() and before else last
