"""What the fields of a data set's rows mean: text, prompt and completion, preferences, chat messages, token ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from borngap.data.messages import check, messages_of
from borngap.data.textfile import check_text
from borngap.data.tokenised import TOKEN_COLUMNS


@dataclass(frozen=True)
class Layout:
    """How to read a row.

    Attributes:
        kind: ``text``, ``completion``, ``rated``, ``preference``, ``instruction``, ``chat`` or ``tokens``.
        fields: pairs of role and the name of the field; none where a row is the text itself, or the messages.
    """

    kind: str
    fields: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Return it in words."""
        named = ", ".join(name if name == role else f"{name} as {role}" for role, name in self.fields)
        return f"{_IN_WORDS[self.kind]} ({named or 'the row itself'})"

    def of(self, value: Any) -> dict[str, Any]:
        """Return the values of a row by role.

        Preferences become the prompt with the chosen side as ``completion``, and instructions Alpaca's prompt with the
        output as ``completion``.

        Args:
            value: a row's value.

        Returns:
            Role -> value, of the right types.

        Raises:
            ValueError: a field is missing or of a wrong type; the message says which.
        """
        if not self.fields:
            role = _ITSELF[self.kind]
            return {role: _READERS[role](value)}
        check(isinstance(value, dict), f"an object was expected, not a {type(value).__name__}")
        if self.kind == "tokens":
            self._check_columns(value)
        found = {role: self._field(value, role, name) for role, name in self.fields}
        made = _MADE[self.kind](found) if self.kind in _MADE else found
        return made | {key: value[key] for key in ("tools", "chat_template_kwargs") if value.get(key) is not None}

    def _check_columns(self, value: Mapping[str, Any]) -> None:
        """A column that is not read would change what is supervised."""
        known = {name for _, name in self.fields}
        more = next((name for name in TOKEN_COLUMNS if name not in known and value.get(name) is not None), None)
        check(more is None, f"the first row has no {more}: give it to all rows, or to none")

    @staticmethod
    def _field(value: Mapping[str, Any], role: str, name: str) -> Any:
        if value.get(name) is None:
            check(role in _OPTIONAL, f"the field {name!r} is missing")
            return None
        try:
            return _READERS[role](value[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def known_layout(value: Any) -> Layout | None:
    """Return the layout that the fields of a row tell; None if they tell none."""
    if isinstance(value, str):
        return Layout("text")
    if isinstance(value, list) and value and isinstance(value[0], dict) and {"role", "from"} & value[0].keys():
        return Layout("chat")
    if not isinstance(value, dict):
        return None
    present = [name for name, held in value.items() if held is not None]
    if "input_ids" in present:
        return Layout("tokens", tuple((name, name) for name in TOKEN_COLUMNS if name in present))
    for layout in _KNOWN:
        needed = {name for role, name in layout.fields if role not in _OPTIONAL}
        if needed <= set(present) and (layout.kind != "rated" or _is_flag(value["label"])):
            return layout
    return None


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and value.lower() in {"true", "false"})


def _flag(value: Any) -> bool:
    check(_is_flag(value), f"true or false was expected, not {value!r:.40}")
    return value if isinstance(value, bool) else value.lower() == "true"


def _text(value: Any) -> str:
    check(isinstance(value, str), f"a text was expected, not a {type(value).__name__}")
    check_text(value)
    return value


def _text_or_messages(value: Any) -> Any:
    if isinstance(value, list):
        return messages_of(value)
    check(isinstance(value, str), f"a text or a list of messages was expected, not a {type(value).__name__}")
    return _text(value)


def _integers(value: Any) -> list[int]:
    listed = value.tolist() if hasattr(value, "tolist") else value  # an array or a tensor
    check(isinstance(listed, list) and all(isinstance(i, int) for i in listed), "a list of integers was expected")
    return listed


def _completion(found: dict[str, Any]) -> dict[str, Any]:
    sides = {role: value for role, value in found.items() if role != "label"}
    alike = len({isinstance(value, str) for value in sides.values()}) == 1
    check(alike, f"{' and '.join(sides)} are all texts or all lists of messages")
    return found


def _preference(found: dict[str, Any]) -> dict[str, Any]:
    """TRL's ``maybe_extract_prompt``: a prompt of another form than the sides is only a copy of their beginning."""
    prompt, chosen, rejected = found.get("prompt"), found["chosen"], found["rejected"]
    if prompt is None or isinstance(prompt, str) != isinstance(chosen, str):
        _completion({"chosen": chosen, "rejected": rejected})
        split = _common(chosen, rejected)
        prompt, chosen, rejected = chosen[:split], chosen[split:], rejected[split:]
    _completion({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return {"prompt": prompt, "completion": chosen, "rejected": rejected}


def _common(chosen: Any, rejected: Any) -> int:
    """Length of the beginning that both sides share, as TRL counts it: not all of the shorter side, no space last."""
    shortest = min(len(chosen), len(rejected))
    check(shortest, "chosen and rejected are not empty")
    at = next((i for i in range(shortest) if chosen[i] != rejected[i]), None)
    if at is None:
        return shortest - 1
    return at - 1 if chosen[at - 1] == " " else at


def _instruction(found: dict[str, Any]) -> dict[str, Any]:
    """The prompt that Alpaca was trained with."""
    given = found.get("input")
    about, fields = ("", "") if not given else (_ALPACA_INPUT, f"### Input:\n{given}\n\n")
    head = f"Below is an instruction that describes a task{about}. {_ALPACA}\n\n"
    prompt = f"{head}### Instruction:\n{found['instruction']}\n\n{fields}### Response:"
    return {"prompt": prompt, "completion": found["output"]}


_ALPACA = "Write a response that appropriately completes the request."
_ALPACA_INPUT = ", paired with an input that provides further context"
_IN_WORDS = {
    "text": "plain text",
    "completion": "prompt and completion",
    "rated": "prompt and completion with a label, desirable or not",
    "preference": "preferences, their chosen side",
    "instruction": "instructions in Alpaca's prompt",
    "chat": "chat messages",
    "tokens": "token ids",
}
_ITSELF = {"text": "text", "chat": "messages"}
_OPTIONAL = {"input"}
ROLES = {"text": ("text",), "completion": ("prompt", "completion"), "chat": ("messages",)}
_KNOWN = (  # in the order in which SFTTrainer looks for them
    Layout("rated", (("prompt", "prompt"), ("completion", "completion"), ("label", "label"))),
    Layout("completion", (("prompt", "prompt"), ("completion", "completion"))),
    Layout("preference", (("prompt", "prompt"), ("chosen", "chosen"), ("rejected", "rejected"))),
    Layout("preference", (("chosen", "chosen"), ("rejected", "rejected"))),
    Layout("chat", (("messages", "messages"),)),
    Layout("chat", (("messages", "conversations"),)),
    Layout("text", (("text", "text"),)),
    Layout("instruction", (("instruction", "instruction"), ("input", "input"), ("output", "output"))),
)
_MADE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "completion": _completion,
    "rated": _completion,
    "preference": _preference,
    "instruction": _instruction,
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "text": _text,
    "prompt": _text_or_messages,
    "completion": _text_or_messages,
    "chosen": _text_or_messages,
    "rejected": _text_or_messages,
    "label": _flag,
    "messages": messages_of,
    "instruction": _text,
    "input": _text,
    "output": _text,
    **dict.fromkeys(TOKEN_COLUMNS, _integers),
}
