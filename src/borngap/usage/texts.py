"""The text of token ids, and which token each character comes from."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from borngap.tokens import decoded, word_text

_BROKEN = "\ufffd"  # what a part of a character is decoded to
_HIDDEN = "\ufffc"  # stands for each character of a special token, whose name is no text


@dataclass(frozen=True)
class TokenText:
    """A text that is made of tokens.

    Attributes:
        text: the text in which words are looked for, special tokens blotted out.
        shown: the text as it is.
        starts: where each token's text starts, ascending, and at the end the length of the text. Of tokens that are
            parts of one character the first one has it.
    """

    text: str
    shown: str
    starts: list[int]

    def first(self, character: int) -> int:
        """Return the token that a character comes from."""
        return bisect_right(self.starts, character) - 1

    def stop(self, character: int) -> int:
        """Return the token after the last one of a stretch that ends before a character."""
        return bisect_left(self.starts, character)


class TokenTexts:
    """Writes tokens as text."""

    def __init__(self, tokenizer: Any) -> None:
        """Prepare.

        Args:
            tokenizer: a Hugging Face tokenizer.
        """
        self._tokenizer, self._known = tokenizer, {}  # type: Any, dict[int, str]
        self._special = frozenset(tokenizer.all_special_ids)

    def of(self, ids: Sequence[int]) -> TokenText:
        """Return the text of token ids."""
        pieces = self._pieces(ids)
        if "".join(pieces).lstrip() != decoded(ids, self._tokenizer).lstrip():
            pieces = self._grown(ids)
        starts = [0]
        for piece in pieces:
            starts.append(starts[-1] + len(piece))
        text = (_HIDDEN * len(p) if i in self._special else p for i, p in zip(ids, pieces, strict=True))
        return TokenText("".join(text), "".join(pieces), starts)

    def _pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token; of parts of a character, all of it at the first part."""
        pieces, at = [self._piece(i) for i in ids], 0
        while at < len(ids):
            stop = at + 1
            if _BROKEN in pieces[at]:
                text = pieces[at]
                while _BROKEN in text and stop < len(ids) and _BROKEN in pieces[stop]:
                    stop += 1
                    text = decoded(ids[at:stop], self._tokenizer)
                pieces[at:stop] = [text] + [""] * (stop - at - 1)
            at = stop
        return pieces

    def _piece(self, token: int) -> str:
        if token not in self._known:
            self._known[token] = word_text(token, self._tokenizer)
        return self._known[token]

    def _grown(self, ids: Sequence[int]) -> list[str]:
        """The same by decoding longer and longer beginnings: slow, and right for any tokenizer."""
        before, pieces = "", []
        for stop in range(1, len(ids) + 1):
            text = decoded(ids[:stop], self._tokenizer)
            complete = text.rstrip(_BROKEN)
            pieces.append(complete[len(before) :] if len(complete) > len(before) else "")
            before = max(before, complete, key=len)
        return pieces
