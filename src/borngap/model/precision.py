"""Precision: logits in float32 or better, whatever the weights are stored in and whatever a host has switched on.

Logits of bfloat16 between 16 and 32 step by 1/8 nat, as coarse as the gaps that are measured. So the last norm and the
head's product are always done in float32, and a host's autocast, TF32 and mixed precision are off meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import psutil
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from borngap.training import Dtype

LOW = frozenset({torch.bfloat16, torch.float16})
_FLOAT32_ELEMENTS = 1 << 24  # of a head that are held in float32 at once
_AMP_DEVICES = ("cpu", "cuda", "xpu", "mps")
_CGROUP = Path("/sys/fs/cgroup")


@contextmanager
def measuring(model: Any) -> Iterator[None]:
    """Let one forward of a model end in float32: nothing is copied but the parameters of the last norm.

    What follows the head (scaling, soft-capping) is the model's own. Under gradients too, so that a forecast and the
    run that it forecasts agree with a probe.

    Args:
        model: a Hugging Face causal LM, possibly wrapped by PEFT.

    Yields:
        Nothing; on leaving the model is as before.
    """
    with full_float32(), ExitStack() as stack:
        _step_round_autocast(model, stack)
        if _ends_low(model):
            _Ending(model, stack)
        yield


@contextmanager
def full_float32() -> Iterator[None]:
    """Do float32 arithmetic in float32: no autocast, no TF32, no bfloat16 inside of products.

    Yields:
        Nothing; on leaving the settings are as before.
    """
    backends: tuple[Any, ...] = (torch.backends.cuda, torch.backends.mkldnn)
    products = [part.matmul for part in backends if _is_lowered(getattr(part, "matmul", None))]
    kept = [part.fp32_precision for part in products]
    with ExitStack() as stack:
        for device in _AMP_DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        try:
            for part in products:
                part.fp32_precision = "ieee"
            yield
        finally:
            for part, value in zip(products, kept, strict=True):
                part.fp32_precision = value


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype's name without its module."""
    return str(dtype).removeprefix("torch.")


def precision_of(model: Any) -> dict[str, str]:
    """Return what a model's numbers come from, JSON-ready.

    Args:
        model: a Hugging Face causal LM, possibly wrapped by PEFT.

    Returns:
        ``dtype``, of the weights as a forward reads them, and ``measured_in``, of the last norm, the head's product and
        the logits.
    """
    dtype = _computed_in(model) or model.dtype
    return {"dtype": name_of(dtype), "measured_in": name_of(torch.promote_types(dtype, torch.float32))}


def settle(model: Any, wanted: Dtype | None) -> Dtype:
    """Cast a model in place to the dtype that it is to be used in.

    Args:
        model: a Hugging Face causal LM.
        wanted: name of a dtype; ``auto`` leaves the weights as they are; None takes float32 for weights of 16 bit if
            it fits.

    Returns:
        Name of the weights' dtype.
    """
    if wanted is None:
        low = not getattr(model, "is_quantized", False) and any(p.dtype in LOW for p in model.parameters())
        wanted = "float32" if low and float32_fits(sum(p.numel() for p in model.parameters()), model.device) else "auto"
    if wanted != "auto":
        model.to(getattr(torch, wanted))
    return cast("Dtype", name_of(model.dtype))


def float32_fits(parameters: int, device: torch.device) -> bool:
    """Return whether so many weights in float32 take at most half of the free memory."""
    return 4 * parameters <= free_memory(device) // 2


def free_memory(device: torch.device) -> int:
    """Return the memory that is free on a device and, since weights come that way, beside the processor, unit byte."""
    here = min(psutil.virtual_memory().available, *_left_by_the_container())
    own = getattr(getattr(torch, device.type, None), "mem_get_info", None)
    return here if own is None else min(here, own(device)[0])


def total_memory(device: torch.device) -> int:
    """Return the memory of a device, or of the machine beside a processor, unit byte: free or not, so never another."""
    own = getattr(getattr(torch, device.type, None), "mem_get_info", None)
    return psutil.virtual_memory().total if own is None else own(device)[1]


def precision_notes(model: Any, stored: str | None = None) -> tuple[str, ...]:
    """Return what a reader must know of a model's precision.

    Args:
        model: a Hugging Face causal LM.
        stored: dtype of its checkpoint, or the formats that its weights were dequantised from, where that is known.

    Returns:
        One sentence, or none where weights are measured as they are stored.
    """
    dtype = name_of(model.dtype)
    if model.dtype in LOW:
        return (f"the weights stay in {dtype}; the last norm and the head's product are done in float32",)
    if stored is not None and not hasattr(torch, stored):
        return (f"the weights are dequantised from {stored}: they are not those of the model before that",)
    if stored not in {None, dtype}:
        return (f"the weights are stored in {stored} and were read into {dtype}",)
    return ()


class _Ending:
    """The part of a forward from the last layer on, in float32."""

    def __init__(self, model: Any, stack: ExitStack) -> None:
        self._stack, self._dtype = stack, torch.float32
        self._reached = False
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        stacks = _stacks(inner)
        for layers in stacks:
            stack.enter_context(layers[-1].register_forward_hook(self._leave_layers))
            for layer in layers:
                stack.enter_context(layer.register_forward_pre_hook(self._enter_layer, with_kwargs=True))
        head = model.get_output_embeddings()
        stack.enter_context(head.register_forward_pre_hook(self._enter_head, prepend=True))
        for module in _outside(model, stacks):
            if hasattr(module, "trainable_tokens_delta"):
                self._set(module, "forward", partial(self._tokens, module))
            elif module._parameters and module is not inner and not isinstance(module, nn.Embedding):
                self._set(module, "forward", partial(self._call, module, module.forward))
            if isinstance(module, FSDPModule):  # its policy would round what enters and what leaves
                state = module._get_fsdp_state()
                exact = replace(state._mp_policy, cast_forward_inputs=False, output_dtype=None)
                self._set(state, "_mp_policy", exact)
            if getattr(module, "cast_input_dtype_enabled", False):  # an adapter, which would round its input
                self._set(module, "cast_input_dtype_enabled", False)

    def _set(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute for a while."""
        own = vars(owner)
        self._stack.callback(*((own.__setitem__, name, own[name]) if name in own else (own.pop, name)))
        own[name] = value

    def _leave_layers(self, _: nn.Module, __: Any, output: Any) -> Any:
        hidden = output if isinstance(output, Tensor) else output[0]
        self._reached = True
        if hidden.dtype not in LOW:
            return output
        self._dtype = hidden.dtype
        return hidden.float() if isinstance(output, Tensor) else type(output)([hidden.float(), *output[1:]])

    def _enter_layer(self, _: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Go back to 16 bit where a model runs through its layers again."""
        if not self._reached:
            return None
        self._reached = False
        if args:
            return (_cast(args[0], self._dtype), *args[1:]), options
        return args, options | {key: _cast(options[key], self._dtype) for key in options.keys() & {"hidden_states"}}

    def _enter_head(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self._reached = True
        self._dtype = args[0].dtype if args[0].dtype in LOW else self._dtype
        return (_raised(args[0]), *args[1:])

    def _call(self, module: Any, forward: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if not self._reached:
            return forward(*args, **options)
        if not _is_plain(module, forward):  # quantised or offloaded: only its own code can run it
            found = forward(*(_cast(value, self._dtype) for value in args), **options)
            return found.float() if isinstance(found, Tensor) else found
        args = tuple(map(_raised, args))
        if type(module).forward is nn.Linear.forward:
            return product(args[0], module.weight, module.bias)
        kept = dict(module._parameters)
        module._parameters |= {name: _raised(p) for name, p in kept.items()}
        try:
            return forward(*args, **options)
        finally:
            module._parameters |= kept

    def _tokens(self, module: Any, x: Tensor, *args: Any, **options: Any) -> Any:
        """PEFT's rows of single tokens, laid over the base layer's weight."""
        if not self._reached or module.disable_adapters or module.merged or not module.active_adapters:
            return type(module).forward(module, x, *args, **options)
        return product(x, module.get_merged_weights(module.active_adapters), None)


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``x @ weight.T + bias`` in float32, block by block, so that no whole copy of a large weight is made.

    Args:
        x: float32 or better, shape (..., d).
        weight: any float dtype, shape (rows, d).
        bias: shape (rows,), or None.

    Returns:
        Shape (..., rows). Where gradients are kept the copy is whole: they would keep its blocks in any case.
    """
    step = max(1, _FLOAT32_ELEMENTS // weight.shape[1])
    whole = torch.is_grad_enabled() or weight.dtype not in LOW or hasattr(weight, "full_tensor")
    if whole or step >= weight.shape[0]:
        return nn.functional.linear(x, _raised(weight), _raised(bias))
    found = torch.cat([nn.functional.linear(x, part.float()) for part in weight.split(step)], -1)
    return found if bias is None else found + bias.float()


def _left_by_the_container() -> Iterator[int]:
    """What a control group lets this process take still; files that are cached give way."""
    try:
        files = next(line for line in (_CGROUP / "memory.stat").read_text().splitlines() if line.startswith("file "))
        used = int((_CGROUP / "memory.current").read_text()) - int(files.split()[1])
        yield int((_CGROUP / "memory.max").read_text()) - used
    except (OSError, ValueError, StopIteration):  # no limit, or no control groups
        yield sys.maxsize


def _raised(x: Any) -> Any:
    return x.float() if isinstance(x, Tensor) and x.dtype in LOW else x


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def _is_lowered(backend: Any) -> bool:
    return getattr(backend, "fp32_precision", "none") not in {"none", "ieee"}


def _is_plain(module: nn.Module, forward: Any) -> bool:
    ordinary = all(p is None or p.dtype in LOW | {torch.float32, torch.float64} for p in module._parameters.values())
    return ordinary and getattr(forward, "__func__", None) is type(module).forward


def _step_round_autocast(model: Any, stack: ExitStack) -> None:
    """Accelerate wraps the forward of a model that it prepares in autocast, and keeps the one below."""
    below = model.__dict__.get("_original_forward")
    if below is not None and "forward" in model.__dict__:
        stack.callback(model.__dict__.__setitem__, "forward", model.__dict__["forward"])
        model.__dict__["forward"] = below


def _ends_low(model: Any) -> bool:
    """Whether the end of a forward would be done in 16 bit."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return _computed_in(model) in LOW or any(p.dtype in LOW for end in ends for p in end.parameters())


def _computed_in(model: Any) -> torch.dtype | None:
    """What FSDP2 casts a model's weights to for its forward; None if it casts or shards nothing."""
    dtype: torch.dtype | None = None
    if isinstance(model, FSDPModule):
        dtype = model._get_fsdp_state()._mp_policy.param_dtype
    return dtype


def _stacks(model: Any) -> list[nn.ModuleList]:
    """The stacks of layers: of the outermost lists of modules the longest; none in a model without."""
    for root in (model.get_decoder() if hasattr(model, "get_decoder") else model, model):
        level = [root]
        while level:
            children = [child for module in level for child in module.children()]
            lists = [child for child in children if isinstance(child, nn.ModuleList) and len(child)]
            if lists:
                return [found for found in lists if len(found) == max(map(len, lists))]
            level = children
    return []


def _outside(module: nn.Module, stacks: list[nn.ModuleList]) -> Iterator[nn.Module]:
    """A module and all below it, without the stacks of layers."""
    yield module
    for child in module.children():
        if not any(child is layers for layers in stacks):
            yield from _outside(child, stacks)
