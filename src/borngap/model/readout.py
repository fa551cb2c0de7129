"""The effective LM head of any loaded model: what the softmax really reads, adapters included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from borngap.choices import KINDS, Kind
from borngap.errors import UserError
from borngap.model.vocabulary import tokenizer_of, vocabulary_of
from borngap.observables.geometry import Geometry

_CHECKED_TOKENS = 64
_UNITS = 64  # unit vectors that go through a head at once
_LINEAR = 1e-3


@dataclass(frozen=True, eq=False)
class Matrix:
    """An embedding matrix as it takes effect.

    Attributes:
        weight: rows, shape (rows, d), float; not a copy unless something had to be merged.
        bias: shape (rows,), or None.
        parts: what it is made of, in words, outermost last.
        unseen: what takes effect but could not be read; empty if all was.
        trained: whether any of its parts is being trained.
    """

    weight: Tensor
    bias: Tensor | None
    parts: tuple[str, ...]
    unseen: tuple[str, ...]
    trained: bool


@dataclass(frozen=True, eq=False)
class Readout:
    """Both embedding matrices of a model.

    Attributes:
        output: the matrix that the softmax reads.
        input: the matrix that tokens enter by.
        tied: whether both are the same numbers because they are the same parameter, adapters included.
        notes: what a reader must know.
    """

    output: Matrix
    input: Matrix
    tied: bool
    notes: tuple[str, ...]


def readout_of(model: Any) -> Readout:
    """Read a model's effective output and input matrices.

    Handles tied and untied heads, bias, LoRA and other linear adapters on the head or the embedding,
    ``modules_to_save``, trainable token rows, and quantised weights (bitsandbytes, torchao, HQQ, by PEFT's own
    dequantisation).

    Args:
        model: a Hugging Face causal LM, possibly wrapped by PEFT.

    Returns:
        Both matrices, and what could not be seen.

    Raises:
        UserError: the model has no output embedding, or its weight is not a matrix.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or embedding is None:
        raise UserError("the model has no output embedding", rule="get_output_embeddings() gives the LM head")
    output, entered = _matrix(head), _matrix(embedding)
    same = _address(_base(head).weight) == _address(_base(embedding).weight)
    merged = output.parts != ("weight",) or entered.parts != ("weight",)
    tied = same and (not merged or torch.equal(output.weight, entered.weight))
    notes = tuple(
        f"not seen in the {side} matrix: {u}" for side, m in (("output", output), ("input", entered)) for u in m.unseen
    )
    if same and not tied:
        notes += ("the base matrix is tied, but an adapter on one side sets output and input apart",)
    return Readout(output, entered, tied, notes)


def geometry_of(model: Any, kind: Kind = "readout", tokenizer: Any = None, readout: Readout | None = None) -> Geometry:
    """Return the geometry matrix of a model (docs/theory.md#objects).

    Args:
        model: a Hugging Face causal LM, possibly wrapped by PEFT.
        kind: ``readout`` (rows of the effective output embedding), ``input`` (of the input embedding), or
            ``centered`` (readout rows minus their mean row).
        tokenizer: says which rows are padding and which tokens are special; without it all rows are tokens.
        readout: the model's, if it was read already.

    Returns:
        The geometry.

    Raises:
        UserError: the kind is unknown.
    """
    if kind not in KINDS:
        raise UserError("unknown geometry", rule=f"one of {', '.join(KINDS)}", found=kind)
    weight = rows_of(model, kind, readout)
    if tokenizer is None:
        return Geometry(weight, kind)
    tokens = vocabulary_of(tokenizer_of(tokenizer), weight.shape[0])
    return Geometry(weight, kind, tokens.size, tokens.special, tokens.holes)


def rows_of(model: Any, kind: Kind, readout: Readout | None = None) -> Tensor:
    """Return the rows that a geometry reads, as they are now, shape (rows, d).

    Args:
        model: a Hugging Face causal LM, possibly wrapped by PEFT.
        kind: geometry matrix.
        readout: the model's, if it was read already.

    Returns:
        Detached, not copied.
    """
    readout = readout_of(model) if readout is None else readout
    return (readout.input if kind == "input" else readout.output).weight.detach()


def transform_note(readout: Readout, hidden: Tensor, logits: Tensor) -> str | None:
    """Compare logits with hidden @ weight.T + bias; say so if the model does something else to them.

    Args:
        readout: the model's readout.
        hidden: hidden states that the readout multiplies, shape (batch, d).
        logits: the model's own logits, shape (batch, V).

    Returns:
        A note, or None where they agree to the precision of the logits' dtype.
    """
    ids = torch.linspace(0, logits.shape[1] - 1, min(_CHECKED_TOKENS, logits.shape[1])).long()
    weight = readout.output.weight[ids.to(readout.output.weight.device)].to(hidden.device).float()
    expected = hidden.float() @ weight.detach().T
    if readout.output.bias is not None:
        expected = expected + readout.output.bias.detach()[ids.to(readout.output.bias.device)].to(expected)
    # a product is summed in float32 or better and rounded to the logits' dtype at the end (and between adapters)
    relative = 64 * torch.finfo(torch.float32).eps + 4 * torch.finfo(logits.dtype).eps
    tolerance = relative * max(1.0, float(expected.abs().max()))
    worst = float((expected - logits[:, ids.to(logits.device)].float()).abs().max())
    if worst <= tolerance:
        return None
    return (
        f"the model's logits are not hidden @ weight.T + bias (they differ by up to {worst:.2g} nat): it scales or "
        "caps them, or its head has a part that was not seen; probabilities are the model's own, overlaps those of the "
        "weight"
    )


@contextmanager
def observing(model: Any) -> Iterator[None]:
    """Evaluate without gradients and leave no trace: every module's mode and the random state are restored.

    Args:
        model: the model to observe.

    Yields:
        Nothing; inside, the model is in eval mode.
    """
    modes = [(module, module.training) for module in model.modules()]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
            if isinstance(module, FSDPModule):  # its root keeps whole parameters after a forward without a backward
                module.reshard()


def _matrix(module: Any) -> Matrix:
    weight, bias, parts, unseen = _effective(module)
    if weight.ndim != 2:
        raise UserError("the embedding weight is no matrix", rule="(tokens, d)", found=tuple(weight.shape))
    return Matrix(weight, bias, parts, unseen, any(p.requires_grad for p in module.parameters()))


_Parts = tuple[Tensor, Tensor | None, tuple[str, ...], tuple[str, ...]]


def _effective(module: Any) -> _Parts:
    """Weight, bias, parts and what was not seen, peeling PEFT's wrappers from the outside in."""
    kind = type(module).__name__
    if kind == "ModulesToSaveWrapper":
        saved = _saved(module)
        if saved is None:
            return _effective(module.original_module)
        weight, bias, parts, unseen = _effective(saved)
        return weight, bias, (*parts, "modules_to_save"), unseen
    if kind == "TrainableTokensWrapper":
        return _effective(module.token_adapter)
    if hasattr(module, "base_layer") and hasattr(module, "active_adapters"):
        return _adapted(module, kind)
    return _plain(module)


def _plain(module: nn.Module) -> _Parts:
    from peft.utils.integrations import dequantize_module_weight

    weight = dequantize_module_weight(module)
    if hasattr(weight, "full_tensor"):  # sharded by FSDP2; a collective, every rank takes part
        weight = weight.full_tensor()
    bias = getattr(module, "bias", None)
    if bias is not None and hasattr(bias, "full_tensor"):
        bias = bias.full_tensor()
    quantised = weight is not module.weight and not hasattr(module.weight, "full_tensor")
    return weight, bias, ("dequantised weight" if quantised else "weight",), ()


def _adapted(module: Any, kind: str) -> _Parts:
    weight, bias, parts, unseen = _effective(module.base_layer)
    active = [] if module.disable_adapters else [a for a in module.active_adapters if a not in module.merged_adapters]
    for adapter in active:
        if adapter in getattr(module, "trainable_tokens_delta", {}):
            index = torch.as_tensor(module.token_indices[adapter], device=weight.device)
            weight = weight.index_copy(0, index, module.trainable_tokens_delta[adapter].to(weight))
            parts += (f"{len(index)} trainable token rows",)
        elif adapter in getattr(module, "lora_variant", {}):
            return _by_use(module, type(module.lora_variant[adapter]).__name__, active)
        elif adapter in getattr(module, "lora_A", {}) or adapter in getattr(module, "lora_embedding_A", {}):
            weight = _sum(weight, module.get_delta_weight(adapter))
            parts += (f"LoRA {adapter!r}",)
            extra = _lora_bias(module, adapter)
            bias = bias if extra is None else extra if bias is None else bias + extra
        elif adapter in _adapters(module):
            return _by_use(module, kind, active)
    return weight, bias, parts, unseen


def _by_use(module: Any, kind: str, active: Sequence[str]) -> _Parts:
    """Rows as they take effect: what a layer makes of unit vectors, an embedding of its ids.

    So any adapter that leaves a layer linear is read, whatever it does to the weights (DoRA, VeRA, IA3, OFT); one
    that does not (it looks at the input) is not seen.

    Returns:
        As ``_effective``.
    """
    weight, bias, parts, unseen = _effective(module.base_layer)
    names = " and ".join(map(repr, active))
    with observing(module):
        found = _used(module, weight)
    if found is None:
        return weight, bias, parts, (*unseen, f"adapter {names} of {kind}")
    return *found, (*parts, f"adapter {names} of {kind}"), unseen


def _used(module: Any, weight: Tensor) -> tuple[Tensor, Tensor | None] | None:
    """Rows, shape (rows, d), and bias of a layer by its own forward; None where it is not linear."""
    rows, width = weight.shape
    if isinstance(module.base_layer, nn.Embedding):
        return module(torch.arange(rows, device=weight.device)).to(weight.dtype), None
    start = module(weight.new_zeros(1, width))[0]
    units = torch.eye(width, device=weight.device, dtype=weight.dtype)
    parts = [(module(chunk) - start).to(weight.dtype) for chunk in units.split(_UNITS)]
    found = torch.cat(parts).T.contiguous()
    generator = torch.Generator().manual_seed(0)
    test = torch.randn(1, width, generator=generator).to(units)
    expected, seen = test @ found.T + start, module(test)
    if not torch.allclose(expected, seen.to(expected), rtol=_LINEAR, atol=_LINEAR * float(seen.abs().max())):
        return None
    return found, start if bool(start.any()) else None


def _sum(weight: Tensor, delta: Tensor) -> Tensor:
    """In float32 or better: rounded to 16 bit most of what an adapter adds would be lost."""
    dtype = torch.promote_types(weight.dtype, torch.float32)
    return weight.to(dtype) + delta.to(weight.device, dtype)


def _lora_bias(module: Any, adapter: str) -> Tensor | None:
    if adapter not in module.lora_B or module.lora_B[adapter].bias is None:
        return None
    return module.lora_B[adapter].bias * module.scaling[adapter]


def _adapters(module: Any) -> set[str]:
    return {key for name in module.adapter_layer_names for key in getattr(module, name, {})}


def _saved(module: Any) -> nn.Module | None:
    if module.disable_adapters or not module.active_adapters:
        return None
    return module.modules_to_save[module.active_adapters[0]]


def _address(weight: Any) -> int:
    """Where a weight's numbers lie; of one that is sharded, this rank's part (the whole has no address)."""
    return (weight.to_local() if hasattr(weight, "to_local") else weight).data_ptr()


def _base(module: Any) -> Any:
    """The innermost module, the one that holds the parameter."""
    if type(module).__name__ == "ModulesToSaveWrapper":
        return _base(_saved(module) or module.original_module)
    if type(module).__name__ == "TrainableTokensWrapper":
        return _base(module.token_adapter)
    return _base(module.base_layer) if hasattr(module, "base_layer") else module
