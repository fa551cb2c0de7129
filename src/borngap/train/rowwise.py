"""A batch whose rows have weights of their own: what is trained is stacked, all else is shared.

Under LoRA one batch goes through the shared trunk, and only the low-rank products differ by row. Whatever else is
trained, the whole model is mapped over the rows (``torch.func``): a matrix product becomes a batched one, so that R
runs need as many kernel launches as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from borngap.errors import UserError
from borngap.model.length import virtual_tokens
from borngap.model.precision import measuring


class Rowwise:
    """A model whose trained parameters come from outside, one set of values a row.

    ``rows``, wherever it is an argument, holds the values of all trained parameters by name, each of shape
    (R, *shape).

    Attributes:
        parameters: what the model trains, by name; a tied parameter once.
        prompted: whether prompts or prefixes are trained, whose start is another prediction than the base model's.
        shares: whether all rows go through the trunk's matrix products together: only linear layers' LoRA is trained.
    """

    def __init__(self, model: Any) -> None:
        """Take a model as it is trained.

        Args:
            model: in eval mode; it is left as it is.
        """
        self._model = model
        self.prompted = bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))
        self.parameters: dict[str, nn.Parameter] = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._layers: dict[str, Any] = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, LoraLinear) and not module.lora_variant
        }
        known = {name for layer in self._layers for name in _names(layer)}
        self.shares = bool(known) and known >= self.parameters.keys()

    def forward(
        self, rows: Mapping[str, Tensor], prompts: Sequence[tuple[int, ...]]
    ) -> tuple[Tensor] | tuple[Tensor, Tensor]:
        """Run every prompt with weights of its own; differentiable in the rows.

        Args:
            rows: the weights.
            prompts: token ids, one prompt a row.

        Returns:
            Logits at the last position of each prompt, shape (R, V), and the detached hidden states that the head
            multiplied, (R, d); these are missing where the head was not called on all positions.

        Raises:
            UserError: the model's forward branches on numbers, so that it can't be mapped over rows.
            RuntimeError: the forward failed otherwise.
        """
        head, device = self._model.get_output_embeddings(), self._model.get_input_embeddings().weight.device
        before = virtual_tokens(self._model)
        last = torch.tensor([len(p) - 1 + before for p in prompts], device=device)
        ids = nn.utils.rnn.pad_sequence([torch.tensor(p) for p in prompts], batch_first=True).to(device)
        if self.shares:
            with measuring(self._model), self._adapted(rows):
                return _at_last(head, self._model, ids, last)

        def one(weights: dict[str, Tensor], ids: Tensor, last: Tensor) -> Any:
            call = partial(torch.func.functional_call, self._model, weights, ())
            found = _at_last(head, lambda **inputs: call(inputs), ids.unsqueeze(0), last.unsqueeze(0))
            return tuple(part[0] for part in found)

        # outside CUDA torch maps its fused attention over rows one by one
        with measuring(self._model), nullcontext() if device.type == "cuda" else sdpa_kernel(SDPBackend.MATH):
            try:
                return torch.func.vmap(one)(dict(rows), ids, last)
            except RuntimeError as error:
                if "vmap" not in str(error):
                    raise
                reason, fix = str(error).split(". ")[0], "use the engine sequential"
                raise UserError("this model's runs can't be stacked", found=reason, fix=fix) from None

    @contextmanager
    def installed(self, rows: Mapping[str, Tensor], row: int) -> Iterator[None]:
        """Let the model be that of one row, for whoever reads its weights; nothing is copied.

        Args:
            rows: the weights.
            row: which row.

        Yields:
            Nothing; on leaving the model is as before.
        """
        kept = {name: parameter.data for name, parameter in self.parameters.items()}
        try:
            for name, parameter in self.parameters.items():
                parameter.data = rows[name][row].detach()
            yield
        finally:
            for name, parameter in self.parameters.items():
                parameter.data = kept[name]

    @contextmanager
    def _adapted(self, rows: Mapping[str, Tensor]) -> Iterator[None]:
        """Let each row of a batch go through adapters of its own; the layers are as before on leaving."""
        try:
            for name, layer in self._layers.items():
                down, up = (rows[weight] for weight in _names(name))
                layer.forward = partial(_adapted_forward, layer, down, up)
            yield
        finally:
            for layer in self._layers.values():
                layer.__dict__.pop("forward", None)


def _names(layer: str) -> tuple[str, str]:
    """Names of the matrices A and B of a layer that LoRA adapts."""
    return f"{layer}.lora_A.default.weight", f"{layer}.lora_B.default.weight"


def _adapted_forward(layer: Any, down: Tensor, up: Tensor, x: Tensor) -> Tensor:
    """``W x_r + s B_r A_r x_r``, x of shape (R, positions, d_in)."""
    base = layer.base_layer(x)
    dtype = torch.promote_types(base.dtype, down.dtype)
    inner = torch.bmm(x.to(dtype), down.mT.to(dtype))
    return torch.baddbmm(base.to(dtype), inner, up.mT.to(dtype), alpha=layer.scaling["default"]).to(base.dtype)


def _at_last(
    head: nn.Module, call: Callable[..., Any], ids: Tensor, last: Tensor
) -> tuple[Tensor] | tuple[Tensor, Tensor]:
    """Logits, shape (R, V), and detached hidden states, (R, d), at the last positions of right-padded prompts."""
    # only these positions enter the head: its product over all of them would cost more than a small model's trunk
    at = torch.arange(len(ids), device=ids.device)
    seen: list[Tensor] = []

    def keep_last(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if args[0].ndim != 3 or args[0].shape[0] != len(ids) or args[0].shape[1] < ids.shape[1]:
            return None
        kept = args[0][at.to(args[0].device), last.to(args[0].device)].unsqueeze(1)
        seen.append(kept.detach().squeeze(1))
        return (kept, *args[1:])

    hook = head.register_forward_pre_hook(keep_last)
    try:
        # no position sees a later one, so a mask of padding changes nothing; one of ones takes the faster kernels
        mask = torch.ones(ids.shape, dtype=ids.dtype, device=ids.device)
        logits = call(input_ids=ids, attention_mask=mask, use_cache=False).logits
    finally:
        hook.remove()
    if seen and logits.shape[1] == 1:
        return logits[:, 0], seen[0]
    return (logits[at.to(logits.device), last.to(logits.device)],)
