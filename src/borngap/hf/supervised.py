"""Rows as token ids and the positions that a trainer would supervise, as the trainer itself builds them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from borngap.errors import UserError
from borngap.layout import Layout
from borngap.rows import Row

IGNORED = -100
_MARK = re.compile(r"{%-?\s*generation\s*-?%}")
_SHARE = 4  # windows of a long row share a quarter
_FIX = "give the tokenizer a chat template that marks them by {% generation %}, or install trl, which knows many"


@dataclass(frozen=True)
class Example:
    """One row as a trainer sees it.

    Attributes:
        row: the row.
        ids: token ids.
        labels: the same where the token is supervised, -100 elsewhere.
    """

    row: Row
    ids: list[int]
    labels: list[int]

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
    """

    example: Example
    start: int
    stop: int
    first: int


class Supervision:
    """Turns rows into examples.

    * text: all tokens of ``tokenizer(text)``, but padding tokens, as the Trainer's collator for causal LMs.
    * completion: the completion with a trailing end-of-text, as TRL's SFTTrainer; messages by the chat template.
    * chat: what the template marks as the assistant's, as SFTTrainer with ``assistant_only_loss=True``.
    * tokens: the row's own labels, or all of its ids.
    """

    def __init__(self, tokenizer: Any, layout: Layout, max_length: int | None = None) -> None:
        """Prepare.

        Args:
            tokenizer: the model's tokenizer.
            layout: how rows are read.
            max_length: where rows are cut, as SFTTrainer's ``max_length`` does; None keeps them whole.

        Raises:
            UserError: chat rows, and the tokenizer has no chat template, or one that does not mark the assistant.
        """
        self._tokenizer, self._layout, self._max_length = tokenizer, layout, max_length
        self._template = training_template(tokenizer) if layout.kind == "chat" else None
        builders: dict[str, Callable[[dict[str, Any]], tuple[list[int], list[int]]]] = {
            "text": self._text,
            "completion": self._completion,
            "chat": self._chat,
            "tokens": self._tokens,
        }
        self._build = builders[layout.kind]

    def example(self, row: Row) -> Example:
        """Turn a row into an example.

        Args:
            row: a row that could be read.

        Returns:
            The example; it may have no supervised target.

        Raises:
            ValueError: the row does not fit the layout or the chat template; the message says why.
        """
        from jinja2 import TemplateError

        try:
            ids, labels = self._build(self._layout.of(row.value))
        except (TemplateError, TypeError, KeyError, IndexError) as error:
            raise ValueError(f"the chat template refuses it: {error}") from None
        stop = self._max_length
        return Example(row, ids[:stop], labels[:stop])

    def _text(self, values: dict[str, Any]) -> tuple[list[int], list[int]]:
        ids = list(self._tokenizer(values["text"], verbose=False)["input_ids"])
        padding = self._tokenizer.pad_token_id
        return ids, [IGNORED if padding is not None and i == padding else i for i in ids]

    def _tokens(self, values: dict[str, Any]) -> tuple[list[int], list[int]]:
        ids, labels = list(values["input_ids"]), list(values.get("labels", values["input_ids"]))
        if len(ids) != len(labels):
            raise ValueError(f"{len(ids)} ids, but {len(labels)} labels")
        return ids, labels

    def _completion(self, values: dict[str, Any]) -> tuple[list[int], list[int]]:
        prompt, completion = values["prompt"], values["completion"]
        if isinstance(prompt, str):
            end = self._tokenizer.eos_token or ""
            whole = prompt + (completion if completion.endswith(end) else completion + end)
            before, ids = (list(self._tokenizer(text, verbose=False)["input_ids"]) for text in (prompt, whole))
        else:
            options = _template_options(values)
            before = self._applied(_chatml(prompt), add_generation_prompt=True, **options)["input_ids"]
            ids = self._applied(_chatml(prompt) + _chatml(completion), **options)["input_ids"]
        # where tokens merge across the boundary the completion starts at the first token that differs
        start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, ids, strict=False)))
        return ids, [IGNORED] * start + ids[start:]

    def _chat(self, values: dict[str, Any]) -> tuple[list[int], list[int]]:
        options = _template_options(values) | {"chat_template": self._template}
        done = self._applied(_chatml(values["messages"]), return_assistant_tokens_mask=True, **options)
        ids, mask = list(done["input_ids"]), done["assistant_masks"]
        return ids, [i if kept else IGNORED for i, kept in zip(ids, mask, strict=True)]

    def _applied(self, messages: list[dict[str, Any]], **options: Any) -> Any:
        return self._tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)


def windows(example: Example, length: int) -> Iterator[Window]:
    """Split an example at the model's context; consecutive windows share a quarter of it.

    Args:
        example: the example.
        length: tokens a window, at least 4.

    Yields:
        Windows in order; each supervised position is measured in exactly one of them, after a quarter of a window at
        least, or after all that precedes it.
    """
    size, shared = len(example.ids), length // _SHARE
    start = first = 0
    while True:
        stop = min(start + length, size)
        yield Window(example, start, stop, max(first, 1))
        if stop == size:
            return
        start, first = stop - shared, stop


def shared_tokens(length: int) -> int:
    """Return how many tokens consecutive windows of a long row share."""
    return length // _SHARE


def training_template(tokenizer: Any) -> str:
    """Return the chat template that marks the assistant's tokens: the tokenizer's own, or TRL's version of it.

    Args:
        tokenizer: the tokenizer.

    Returns:
        The template.

    Raises:
        UserError: there is no template, or none that marks them.
    """
    template = getattr(tokenizer, "chat_template", None)
    template = template.get("default") if isinstance(template, dict) else template
    if not template:
        fix = "use the tokenizer of an instruction-tuned model, or set tokenizer.chat_template"
        raise UserError("the tokenizer has no chat template", rule="chat messages need one", fix=fix)
    if _MARK.search(template):
        return template
    patched = _patched(tokenizer)
    if patched is None:
        rule = "only the assistant's tokens are supervised, so the chat template must mark them"
        raise UserError("the chat template does not mark the assistant's tokens", rule=rule, fix=_FIX)
    return patched


def _patched(tokenizer: Any) -> str | None:
    """TRL's template with marks for the same model family; None where TRL is missing or knows none."""
    try:
        from trl.chat_template_utils import get_training_chat_template
    except ImportError:
        return None
    try:
        return get_training_chat_template(tokenizer)
    except ValueError:
        return None


def _template_options(values: dict[str, Any]) -> dict[str, Any]:
    tools = values.get("tools")
    tools = json.loads(tools) if isinstance(tools, str) else tools
    return {"tools": tools, **values.get("chat_template_kwargs", {})}


def _chatml(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages with ``role`` and ``content``; some data sets call these ``from`` and ``value``."""
    names = {"from": "role", "value": "content"}
    return [{names.get(key, key): value for key, value in message.items()} for message in messages]
