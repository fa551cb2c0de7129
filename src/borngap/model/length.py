"""How many tokens a model reads at once, whatever its configuration calls it."""

from __future__ import annotations

import re
from typing import Any

_LENGTH_FIELDS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "max_seq_length", "seq_length",
    "n_ctx", "context_length", "max_context_length", "max_target_positions",
)  # fmt: skip
_COUNTED_FROM_PADDING = re.compile("roberta|camembert|data2vec-text|xmod")
_OF_THE_CACHE = ("PREFIX_TUNING", "CARTRIDGE")
_NO_LIMIT = 10**8  # what is larger says that there is no limit


def context_length(model: Any) -> int | None:
    """Return the longest input of a model; a sliding window is no limit to it.

    Args:
        model: a Hugging Face causal LM, possibly wrapped by PEFT; of one that sees too the text model counts.

    Returns:
        Unit tokens; None where the configuration sets no sensible limit.
    """
    config = model.config
    found = (getattr(part, name, None) for part in (config.get_text_config(), config) for name in _LENGTH_FIELDS)
    limit = next((int(n) for n in found if isinstance(n, (int, float)) and 1 < n < _NO_LIMIT), None)
    if limit is None:
        return None
    # these count positions from behind the padding token's id
    before = (config.pad_token_id or 0) + 1 if _COUNTED_FROM_PADDING.search(config.model_type) else 0
    return limit - before - virtual_tokens(model)


def virtual_tokens(model: Any) -> int:
    """Return how many positions an adapter (prompt tuning and its kin) puts in front of every input.

    Args:
        model: a Hugging Face causal LM, possibly wrapped by PEFT.

    Returns:
        Unit tokens; a prefix of keys and values has no positions of its own.
    """
    config = getattr(model, "active_peft_config", None)
    if config is None or not config.is_prompt_learning or config.peft_type in _OF_THE_CACHE:
        return 0
    return int(config.num_virtual_tokens)
