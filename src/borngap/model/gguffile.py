"""GGUF files, in which llama.cpp stores models: transformers reads them and unpacks the weights, with package gguf."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from tokenizers import pre_tokenizers

from borngap.errors import UserError
from borngap.model.sources import ModelSource, is_gguf, read

_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
_KIND, _SPLIT = "tokenizer.ggml.model", "tokenizer.ggml.pre"
# how llama.cpp splits text before it looks for tokens; both as GPT-2, the second with each digit alone
_LIKE_GPT2 = {"", "default", "gpt-2", "mpt", "olmo", "jais", "trillion"}
_DIGITS_ALONE = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
_INSIDE = "model.gguf"
_GROUP = 1 << 18  # bytes that are unpacked at once: as many as the processor's cache holds with what comes of them
_ROWS_AT_ONCE = 16  # gguf's own number
_SHARD = re.compile(r"-\d{5}-of-(\d{5})\.gguf$", re.IGNORECASE)


@dataclass(frozen=True)
class _Facts:
    """What a GGUF file says of itself.

    Attributes:
        formats: how its numbers are stored, by ggml's names; the one that holds most of them first.
        parts: how many files the model is in.
        split: how llama.cpp splits text for a byte-level tokenizer; None where it is of another kind.
    """

    formats: tuple[str, ...]
    parts: int
    split: str | None


@contextmanager
def reading_from(source: ModelSource, revision: str | None) -> Iterator[tuple[ModelSource, dict[str, Any]]]:
    """Say where ``from_pretrained`` finds a model, and with which options.

    Args:
        source: a folder, a GGUF file, or a hub id.
        revision: of a hub repository.

    Yields:
        What to read from, and the options. A GGUF file stands there alone: nothing beside it is read for it.
    """
    options: dict[str, Any] = {"trust_remote_code": False, "revision": revision or "main"}
    if not isinstance(source, Path) or not is_gguf(source):
        yield source, options
        return
    need_gguf()
    _check_one_file(source)
    with TemporaryDirectory() as folder, _quick():
        (Path(folder) / _INSIDE).symlink_to(source.resolve())
        yield Path(folder), options | {"gguf_file": _INSIDE}


def describe(source: Path, config: Any) -> dict[str, Any]:
    """Write into a configuration what the weights of its GGUF file are stored in.

    Args:
        source: the GGUF file.
        config: its configuration; changed. ``dequantised_from`` names the block formats, such as ``Q4_K, Q6_K``, the
            one that holds most weights first; a file of plain floats has its ``dtype`` instead.

    Returns:
        Options with which ``from_pretrained`` unpacks the weights, whatever could be done without.
    """
    from transformers import GgufConfig

    formats = _facts_of(source).formats
    blocks = [kind for kind in formats if kind not in _FLOATS]
    if blocks:
        config.dequantised_from = ", ".join(blocks)
    elif formats:
        config.dtype = _FLOATS[formats[0]]
    return {"config": config, "quantization_config": GgufConfig(dequantize=True)}


def make_ordinary(model: Any, source: Path) -> None:
    """Make a model that was read from a GGUF file an ordinary one, which can be trained and saved; changes it."""
    model.config._name_or_path = model.name_or_path = str(source)
    model.hf_quantizer, model.is_quantized = None, False
    for part in (model, model.config):
        for name in ("quantization_config", "quantization_method"):
            if hasattr(part, name):
                delattr(part, name)


def split_as_stored(tokenizer: Any, source: Path) -> None:
    """Let a tokenizer split text before tokens are looked for as its GGUF file says, where transformers does not.

    Args:
        tokenizer: as transformers made it from the file; changed.
        source: the GGUF file.
    """
    if _facts_of(source).split in _DIGITS_ALONE:
        parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)


def splitting_notes(source: Path) -> tuple[str, ...]:
    """Return what the user must know of a GGUF file's tokenizer: that its way of splitting text is not known."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    way = _facts_of(source).split
    if way in {None, *_LIKE_GPT2, *_DIGITS_ALONE, *GGUF_PRE_TOKENIZER_SPLITS}:
        return ()
    return (f"text is split before tokens are looked for as by GPT-2: the file says {way!r}, which is not known",)


def need_gguf() -> None:
    """Check that package gguf is there.

    Raises:
        UserError: it is not.
    """
    if find_spec("gguf") is None:
        raise UserError("GGUF files need the package gguf", fix="pip install 'borngap[gguf]'")


def _facts_of(path: Path) -> _Facts:
    """Read what is needed of a GGUF file besides what transformers reads; of one file once."""
    state = path.stat()
    return _facts(path.resolve(), state.st_mtime_ns, state.st_size)


@lru_cache
def _facts(path: Path, *_state: int) -> _Facts:
    import gguf

    with _quick():
        file = read(str(path), lambda: gguf.GGUFReader(str(path)))

    def value(key: str, default: Any) -> Any:
        field = file.get_field(key)
        return default if field is None else field.contents()

    sizes: dict[str, int] = {}
    for tensor in file.tensors:
        sizes[tensor.tensor_type.name] = sizes.get(tensor.tensor_type.name, 0) + int(tensor.n_elements)
    split = str(value(_SPLIT, "")) if value(_KIND, "") == "gpt2" else None
    return _Facts(tuple(sorted(sizes, key=lambda kind: -sizes[kind])), int(value("split.count", 1)), split)


def _check_one_file(path: Path) -> None:
    shard = _SHARD.search(path.name)
    parts = max(_facts_of(path).parts, int(shard[1]) if shard else 1)
    if parts > 1:
        rule, fix = "a model in one file", f"join its {parts} parts: llama-gguf-split --merge FIRST OUT"
        raise UserError(f"{path} is one part of a GGUF model", rule=rule, found=path.name, fix=fix)


@contextmanager
def _quick() -> Iterator[None]:
    """Let transformers read what gguf reads, sooner: the same values, by the same routines, in fewer and larger steps.

    Of a vocabulary of 262,144 tokens gguf's reader makes a million memory maps; transformers has it read three times,
    and makes the table of tensor names anew for each module.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as host

    with ExitStack() as stack:
        for owner, name, quick in (
            (gguf, "get_tensor_name_map", lru_cache(gguf.get_tensor_name_map)),
            (gguf, "GGUFReader", _quick_reader(gguf.GGUFReader)),
            (gguf, "dequantize", _wider(gguf.dequantize)),
            (host, "_gguf_parse_value", _quick_values(host._gguf_parse_value)),  # type: ignore[attr-defined]
            (host, "tqdm", lambda items, **_: items),
        ):
            stack.enter_context(patch.object(owner, name, quick))
        yield


def _quick_reader(slow: Any) -> Any:
    """Return gguf's reader, with the same fields and parts, but long arrays read at once."""
    from gguf import GGUFValueType

    class Quick(slow):  # type: ignore[misc]
        """Reads arrays of metadata at once."""

        data: Any

        def _build_fields(self, offs: int, count: int) -> int:
            self.data = np.asarray(self.data)  # still mapped, without the cost of a memmap object for each part
            return int(super()._build_fields(offs, count))

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if raw_type != GGUFValueType.ARRAY or self.byte_order != "I":
                return super()._get_field_parts(orig_offs, raw_type)
            kind, count = struct.unpack_from("<IQ", self.data, orig_offs)
            head, start = [self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)], orig_offs + 12
            number = self.gguf_scalar_to_np.get(GGUFValueType(kind))
            if kind == GGUFValueType.STRING:
                items, end = _strings(self.data, start, count)
                indices = range(3, 3 + 2 * count, 2)  # each has its length before it
            elif number is not None:
                values = self._get(start, number, count)
                items, end, indices = list(values.reshape(-1, 1)), start + values.nbytes, range(2, 2 + count)
            else:
                return super()._get_field_parts(orig_offs, raw_type)
            return end - orig_offs, head + items, list(indices), [GGUFValueType.ARRAY, *[GGUFValueType(kind)][:count]]

    return Quick


def _strings(data: Any, at: int, count: int) -> tuple[list[Any], int]:
    """Return length and bytes of each of so many strings, as views, and where the last of them ends."""
    length_at = struct.Struct("<Q").unpack_from
    parts = []
    for _ in range(count):
        start, end = at + 8, at + 8 + length_at(data, at)[0]
        parts += [data[at:start].view("<u8"), data[start:end]]
        at = end
    return parts, at


def _quick_values(slow: Any) -> Any:
    """Return transformers' way from a part to its value, but of items of an array at once, not by a list of bytes."""
    from gguf import GGUFValueType

    def value(part: Any, types: Any) -> Any:
        if len(types) != 2:
            return slow(part, types)
        return part.tobytes().decode() if types[1] == GGUFValueType.STRING else part.item()

    return value


def _wider(dequantize: Any) -> Any:
    """Return gguf's routine on fewer and longer rows: it takes 16 rows at once, however short they are."""
    from gguf.quants import quant_shape_from_byte_shape

    def unpack(data: Any, kind: Any) -> Any:
        if kind.name in _FLOATS or data.ndim < 2:
            return dequantize(data, kind)
        rows = data.reshape(-1, data.shape[-1])
        most = max(1, _GROUP // (_ROWS_AT_ONCE * rows.shape[1]))
        joined = next(n for n in range(min(most, len(rows)), 0, -1) if len(rows) % n == 0)
        wide = dequantize(rows.reshape(len(rows) // joined, -1), kind)
        return wide.reshape(quant_shape_from_byte_shape(data.shape, kind))

    return unpack
