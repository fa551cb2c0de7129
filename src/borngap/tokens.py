"""Text to token ids and back, by any Hugging Face tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WORD_STARTS = ("Ġ", "▁", " ")


def text_ids(text: str, tokenizer: Any) -> list[int]:
    """Return the ids of the beginning of a text, as a model is to go on from them.

    What the tokenizer puts in front (a start token) is there once: a text that a chat template rendered begins with it
    already, and transformers and TRL tokenise such a text with ``add_special_tokens=False``. What it puts behind (an
    end-of-text) is left out.

    Args:
        text: any text.
        tokenizer: a Hugging Face tokenizer.

    Returns:
        The ids.
    """
    whole = list(tokenizer(text)["input_ids"])
    bare = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    places = range(len(whole) - len(bare), -1, -1)
    at = next((i for i in places if whole[i : i + len(bare)] == bare), None)
    if at is None:
        return whole
    return bare if at and bare[:at] == whole[:at] else whole[:at] + bare


def decoded(ids: Sequence[int], tokenizer: Any) -> str:
    """Return the text of token ids, special tokens shown and no space tidied away."""
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def known(ids: Sequence[int], tokenizer: Any) -> bool:
    """Return whether a tokenizer has tokens of all these ids."""
    try:
        return None not in tokenizer.convert_ids_to_tokens(list(ids))
    except (IndexError, KeyError, OverflowError):
        return False


def starts_word(token: int, tokenizer: Any) -> bool:
    """Return whether a token bears the mark of a word's beginning: ``Ġ``, ``▁`` or a space."""
    return (tokenizer.convert_ids_to_tokens(token) or "").startswith(WORD_STARTS)


def word_text(token: int, tokenizer: Any) -> str:
    """Return a token's text as it stands in running text: with the space before it if it begins a word."""
    text = decoded([token], tokenizer)
    return text if text[:1].isspace() or not starts_word(token, tokenizer) else " " + text


def spaced(prompt: str, word: str, tokenizer: Any) -> str | None:
    """Return a word with a space before it, if that is one token after the prompt; None if not."""
    before, alone = prompt.rstrip(), f" {word.strip()}"
    ids, whole = text_ids(before, tokenizer), text_ids(before + alone, tokenizer)
    return alone if whole[:-1] == ids and starts_word(whole[-1], tokenizer) else None
