"""Rows as token ids and the positions that a trainer would supervise, as the trainer itself builds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from borngap.data.chats import Chats, template_options
from borngap.data.layout import Layout
from borngap.data.rows import Row
from borngap.data.tokenised import IGNORED, TOKEN_COLUMNS, Document, Tokens, plain, supervised_by, tokenised
from borngap.errors import UserError
from borngap.scanning.reading import Loss

_SHARE = 4  # windows of a long row share a quarter


@dataclass(frozen=True)
class Example:
    """One row as a trainer sees it.

    Attributes:
        row: the row.
        ids: token ids.
        labels: the same where the token is supervised, -100 elsewhere.
        documents: what the model reads together.
    """

    row: Row
    ids: list[int]
    labels: list[int]
    documents: tuple[Document, ...]

    @property
    def targets(self) -> int:
        """Number of supervised targets: a causal LM never predicts the first token."""
        return sum(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True)
class Window:
    """A stretch of an example that the model reads at once.

    Attributes:
        example: the example.
        start: its first token.
        stop: the token after its last.
        first: the first token that is measured in this window; those before were measured in an earlier one.
        hidden: tokens before it that the model is given but does not look at.
        position: position id of its first token; None where the model counts by itself.
    """

    example: Example
    start: int
    stop: int
    first: int
    hidden: int = 0
    position: int | None = None


class Supervision:
    """Turns rows into examples.

    * text: all tokens of ``tokenizer(text)``, but padding tokens, as the Trainer's collator for causal LMs.
    * prompt and completion, instructions: the completion with a trailing end-of-text, as TRL's SFTTrainer; messages by
      the chat template.
    * preferences: the chosen side, as TRL's DPOTrainer; of rated completions the desirable ones, as its KTOTrainer.
    * chat: the assistant's tokens, as SFTTrainer with ``assistant_only_loss=True``.
    * tokens: as ``tokenised`` says.

    With ``loss="all"`` prompts and users' messages count as well: SFTTrainer with ``completion_only_loss=False``, and
    its default for chats.

    Attributes:
        supervised: what is supervised, in words.
    """

    def __init__(self, tokenizer: Any, layout: Layout, max_length: int | None = None, loss: Loss = "answers") -> None:
        """Prepare.

        Args:
            tokenizer: the model's tokenizer.
            layout: how rows are read.
            max_length: where rows are cut, as SFTTrainer's ``max_length`` does; None keeps them whole.
            loss: ``answers`` or ``all``.

        Raises:
            UserError: chat rows, and the tokenizer has no chat template; or all tokens of preferences.
        """
        self._tokenizer, self._layout, self._max_length = tokenizer, layout, max_length
        self._all = loss == "all"
        if self._all and layout.kind in {"preference", "rated"}:
            rule = "trainers on preferences supervise the sides alone"
            raise UserError("the prompts of preferences are never supervised", rule=rule, fix="leave out --loss all")
        self._held_chats = Chats(tokenizer) if layout.kind == "chat" else None
        builders: dict[str, tuple[Callable[[dict[str, Any]], Tokens], str]] = {
            "text": (self._text, "all tokens"),
            "completion": (self._completion, "the completion"),
            "rated": (self._completion, "the completions labelled as desirable"),
            "preference": (self._completion, "the chosen completion"),
            "instruction": (self._completion, "the output"),
            "chat": (self._chat, f"the assistant's tokens, {self._held_chats.way if self._held_chats else ''}"),
            "tokens": (self._tokens, supervised_by(dict(layout.fields), completion_only=not self._all)),
        }
        self._build, answers = builders[layout.kind]
        self.supervised = "all tokens" if self._all and layout.kind != "tokens" else answers

    def example(self, row: Row) -> Example:
        """Turn a row into an example.

        Args:
            row: a row that could be read.

        Returns:
            The example; it may have no supervised target.

        Raises:
            ValueError: the row does not fit the layout or the chat template; the message says why.
        """
        built, stop = self._build(self._layout.of(row.value)), self._max_length
        documents = tuple(document.cut(stop) for document in built.documents)
        return Example(row, built.ids[:stop], built.labels[:stop], tuple(d for d in documents if d.stop > d.start))

    @property
    def _chats(self) -> Chats:
        if self._held_chats is None:
            self._held_chats = Chats(self._tokenizer)
        return self._held_chats

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, verbose=False)["input_ids"])

    def _text(self, values: dict[str, Any]) -> Tokens:
        ids, padding = self._ids(values["text"]), self._tokenizer.pad_token_id
        return plain(ids, [IGNORED if i == padding else i for i in ids])

    def _tokens(self, values: dict[str, Any]) -> Tokens:
        columns = {name: values[name] for name in TOKEN_COLUMNS if name in values}
        return tokenised(columns, self._tokenizer.pad_token_id, completion_only=not self._all)

    def _completion(self, values: dict[str, Any]) -> Tokens:
        """The completion starts at the first token that differs from the prompt's; of preferences both sides count."""
        prompt, sides = values["prompt"], [values[key] for key in ("completion", "rejected") if key in values]
        if isinstance(prompt, str):
            end = self._tokenizer.eos_token or ""
            before = self._ids(prompt)
            wholes = [self._ids(prompt + (side if side.endswith(end) else side + end)) for side in sides]
        else:
            options = template_options(values)
            before = self._chats.ids(prompt, add_generation_prompt=True, **options)
            wholes = [self._chats.ids(prompt + side, **options) for side in sides]
        ids = wholes[0]
        start = 0 if self._all else min(_shared(before, whole) for whole in wholes)
        return plain(ids, [IGNORED] * start + ids[start:] if values.get("label", True) else [IGNORED] * len(ids))

    def _chat(self, values: dict[str, Any]) -> Tokens:
        messages, options = values["messages"], template_options(values)
        if self._all:
            ids = self._chats.ids(messages, **options)
            return plain(ids, list(ids))
        ids, mask = self._chats.answers(messages, **options)
        return plain(ids, [i if said else IGNORED for i, said in zip(ids, mask, strict=True)])


def example_of(row: Row, supervision: Supervision, size: int) -> Example:
    """Turn a row into token ids and labels.

    Args:
        row: any row.
        supervision: turns rows into examples.
        size: rows of the model's embedding that are tokens.

    Returns:
        The example.

    Raises:
        ValueError: the row is malformed; the message says why.
    """
    if row.error is not None:
        raise ValueError(row.error)
    example = supervision.example(row)
    strange = sorted({i for i in example.ids if not 0 <= i < size})
    if strange:
        last = size - 1
        raise ValueError(f"token ids are from 0 to {last}, the last that the model has a row for: {strange[:8]}")
    return example


def examples_of(
    rows: Iterable[Row], supervision: Supervision, size: int, *, strict: bool = False
) -> tuple[list[Example], list[tuple[str, str]]]:
    """Turn rows into examples.

    Args:
        rows: any rows.
        supervision: turns rows into examples.
        size: rows of the model's embedding that are tokens.
        strict: whether a malformed row is an error.

    Returns:
        The examples, and place and reason of the malformed rows.

    Raises:
        UserError: a malformed row, if strict.
    """
    examples, malformed = [], []
    for row in rows:
        try:
            examples.append(example_of(row, supervision, size))
        except ValueError as error:
            if strict:
                fix = "leave out --strict"
                raise UserError(f"malformed row: {row.where}", found=str(error), fix=fix) from None
            malformed.append((row.where, str(error)))
    return examples, malformed


def _shared(one: list[int], other: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def windows_of(example: Example, document: Document, length: int) -> Iterator[Window]:
    """Split a document at the model's context; consecutive windows share a quarter of it.

    A document that fits is read as the trainer lets it be read, padding and position ids included if they fit too.

    Args:
        example: the example.
        document: one of its documents.
        length: tokens a window, at least 4.

    Yields:
        Windows in order; each supervised position is measured in exactly one of them, after a quarter of a window at
        least, or after all that precedes it.
    """
    size, shared = document.stop - document.start, length // _SHARE
    if size <= length:
        hidden = document.hidden if document.hidden + size <= length else 0
        position = document.position if (document.position or 0) + size <= length else None
        yield Window(example, document.start, document.stop, document.start + 1, hidden, position)
        return
    start, first = document.start, document.start + 1
    while True:
        stop = min(start + length, document.stop)
        yield Window(example, start, stop, first)
        if stop == document.stop:
            return
        start, first = stop - shared, stop


def shared_tokens(length: int) -> int:
    """Return how many tokens consecutive windows of a long row share."""
    return length // _SHARE
