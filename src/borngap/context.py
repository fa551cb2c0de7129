"""Contexts: a prompt, its right next word, and the near-synonym that competes with it; their files, their token ids."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from borngap.data import jsonfile
from borngap.data.csvfile import delimited
from borngap.errors import UserError, did_you_mean
from borngap.kinds import refuse_result
from borngap.shown import quoted
from borngap.tokens import decoded, known, spaced, text_ids
from borngap.words.relation import Relation, relation

_TEXT_FIELDS = ("prompt", "gold", "rival")
_WORD_FIELDS = _TEXT_FIELDS[1:]
_ID_FIELDS = ("prompt_ids", "gold_id", "rival_id")
FIELDS = (*_TEXT_FIELDS, *_ID_FIELDS, "note")
_Rule = tuple[bool, Callable[[Any], bool], str]
BUNDLED = ("docs10", "docs40", "paper10", "paper120", "natural100")
_BUNDLED_FOLDER = Path(__file__).parent / "contexts"
_OTHER_NAMES = {"competitor": "rival", "target": "gold", "word": "gold", "text": "prompt", "answer": "gold"}
_DATA = {
    "text", "completion", "messages", "conversations", "input_ids", "labels", "instruction", "output", "chosen",
    "rejected",
}  # fmt: skip
_SHOWN_TEXT = 40  # characters of a text in a message
_FORMAT = '{"prompt": "...", "gold": " shame", "rival": " guilt"}'


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_id(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_ids(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_id, value))


_RULES: dict[str, _Rule] = {
    **{key: (key != "rival", _is_text, "a text") for key in _TEXT_FIELDS},
    "prompt_ids": (False, _is_ids, "a list of token ids"),
    **dict.fromkeys(_ID_FIELDS[1:], (False, _is_id, "a token id")),
    "note": (False, _is_text, "a text"),
}


@dataclass(frozen=True)
class Context:
    """One next-token prediction to watch.

    Token ids say exactly what the model reads where the text alone would give other tokens: a stretch out of a row, a
    row that was tokenised piece by piece. They belong to one tokenizer.

    Attributes:
        prompt: the text before the word, not empty.
        gold: the right next word, with its leading space if it has one.
        rival: its near-synonym; None to have it chosen by the model's geometry.
        prompt_ids: token ids of the prompt, special tokens included; None to tokenise the text.
        gold_id: the token that is measured for gold; given with ``prompt_ids``.
        rival_id: the same for the rival; given with ``prompt_ids`` where a rival is named.
        note: where it comes from, for the reader.

    Raises:
        UserError: some ids are given, and others that belong to them are not.
    """

    prompt: str
    gold: str
    rival: str | None = None
    prompt_ids: tuple[int, ...] | None = None
    gold_id: int | None = None
    rival_id: int | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        """Check that ids stand together.

        Raises:
            UserError: they do not.
        """
        if self.prompt_ids is not None:
            object.__setattr__(self, "prompt_ids", tuple(map(int, self.prompt_ids)))
        tokenised = self.prompt_ids is not None
        needed = (tokenised, tokenised and self.rival is not None)
        if (self.gold_id is not None, self.rival_id is not None) != needed:
            rule = "prompt_ids and gold_id, and rival_id where a rival is named; or none of them"
            found = ", ".join(key for key in _ID_FIELDS if getattr(self, key) is not None)
            raise UserError("token ids are given in part", rule=rule, found=found)

    def to_json(self) -> dict[str, Any]:
        """Return the fields that are there, JSON-ready; ``Context(**fields)`` is the context again."""
        found = {key: getattr(self, key) for key in FIELDS if getattr(self, key) is not None}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


@dataclass(frozen=True)
class Target:
    """A context as token ids of one tokenizer.

    Attributes:
        context: the context.
        ids: prompt token ids, with the tokens that gold and rival share moved in.
        gold_id: the token that is measured for gold.
        rival_id: the same for the rival; None if it is yet to be chosen.
        notes: what the reader must know, by field: moved tokens, words measured by a fragment.
        fragment: whether a token that is measured is only a part of its word.
    """

    context: Context
    ids: tuple[int, ...]
    gold_id: int
    rival_id: int | None
    notes: dict[str, str]
    fragment: bool

    @property
    def relation(self) -> Relation | None:
        """How gold and rival are related; None without a rival."""
        rival = self.context.rival
        return None if rival is None else relation(self.context.gold, rival)

    @property
    def words(self) -> str:
        """Gold and its rival, in a few words."""
        c = self.context
        return " over ".join("its neighbour" if w is None else quoted(w) for w in (c.gold, c.rival))


def read_contexts(source: str | Path) -> list[Context]:
    """Read contexts from a file, from standard input (``-``) or by bundled name.

    Args:
        source: a bundled name (one of ``BUNDLED``), ``-``, or the path of a JSON Lines or CSV file with the fields
            ``prompt``, ``gold`` and, optionally, ``rival``, ``note``, and the token ids ``prompt_ids``, ``gold_id``
            and ``rival_id``.

    Returns:
        The contexts, at least one.

    Raises:
        UserError: the file is missing, empty or malformed; the message names the line.
    """
    name = str(source)
    if name in BUNDLED:
        return _parse((_BUNDLED_FOLDER / f"{name}.jsonl").read_text(encoding="utf-8"), name)
    refuse_result(name, "a contexts file, or the name of a bundled list")
    name = "standard input" if name == "-" else name
    try:
        text = Path(source).read_text(encoding="utf-8-sig") if str(source) != "-" else sys.stdin.read()
        return _parse(text, name)
    except OSError as error:
        fix = did_you_mean(name, BUNDLED) or f"give a JSON Lines or CSV file, or one of {', '.join(BUNDLED)}"
        found = f"{name} ({error.strerror})"
        raise UserError("contexts file can't be read", found=found, fix=fix) from None
    except UnicodeDecodeError:
        raise UserError("contexts file is not text", rule="UTF-8, JSON Lines or CSV", found=name) from None


def contexts_of(given: Sequence[Any] | str | Path) -> list[Any]:
    """Return contexts as a caller may give them: a source that ``read_contexts`` takes, contexts, or mappings.

    Args:
        given: a source, or contexts among which mappings stand for contexts; anything else is handed on.

    Returns:
        The contexts.
    """
    if isinstance(given, str | Path):
        return read_contexts(given)
    return [_context(c, f"context {i}") if isinstance(c, Mapping) else c for i, c in enumerate(given)]


def write_contexts(contexts: Sequence[Context]) -> str:
    """Return contexts as JSON Lines, readable by ``read_contexts``."""
    return "".join(json.dumps(context.to_json(), ensure_ascii=False) + "\n" for context in contexts)


def tokenize(context: Context, tokenizer: Any) -> Target:
    """Turn a context into token ids (docs/theory.md#objects).

    Ids are those that the context gives, if they are this tokenizer's. Else they are those of prompt + word minus the
    prefix of the prompt's own ids, with the tokenizer's default special tokens, no start token twice and no trailing
    end-of-text. Of words of several tokens the first token at which gold and rival differ counts; the tokens they
    share move into the prompt.

    Args:
        context: the context.
        tokenizer: a Hugging Face tokenizer.

    Returns:
        The target.

    Raises:
        UserError: the ids are not this tokenizer's, the prompt's ids are no prefix, a word has no tokens, or both words
            are measured by one token.
    """
    if context.prompt_ids is not None:
        return _given(context, tokenizer)
    prompt = text_ids(context.prompt, tokenizer)
    if not prompt:
        raise UserError("the prompt has no tokens", rule="at least one token", found=repr(context.prompt))
    gold = _word_ids(context.prompt, prompt, context.gold, tokenizer)
    if context.rival is None:
        notes = _own_note(context) | _glued_note("gold", context.prompt, context.gold, tokenizer)
        notes |= _fragment_note("gold", context.gold, gold[:1], gold, tokenizer)
        return Target(context, tuple(prompt), gold[0], None, notes, fragment=len(gold) > 1)
    rival = _word_ids(context.prompt, prompt, context.rival, tokenizer)
    shared = next((i for i, (a, b) in enumerate(zip(gold, rival, strict=False)) if a != b), None)
    if shared is None:
        raise UserError(
            "gold and rival can't be told apart by one token",
            rule="they differ at a token that both have",
            found=" and ".join(_tokens(ids, tokenizer) for ids in (gold, rival)),
            fix="choose words of which neither is the beginning of the other",
        )
    notes = _own_note(context)
    if shared:
        moved = _tokens(gold[:shared], tokenizer)
        notes["prompt"] = f"the tokens that both words share were moved into the prompt: {moved}"
    for name, word, ids in (("gold", context.gold, gold), ("rival", context.rival, rival)):
        notes |= _glued_note(name, context.prompt, word, tokenizer)
        notes |= _fragment_note(name, word, ids[shared : shared + 1], ids, tokenizer)
    prefix, fragment = (*prompt, *gold[:shared]), max(len(gold), len(rival)) > 1
    return Target(context, prefix, gold[shared], rival[shared], notes, fragment)


def _parse(text: str, name: str) -> list[Context]:
    rows = _json_rows(text, name) if text.lstrip().startswith("{") else _csv_rows(text, name) if text.strip() else []
    if not rows:
        raise UserError("no contexts", rule="at least one", found=f"{name} is empty", fix=f"one a line: {_FORMAT}")
    return [_context(row, f"{name}, line {line}") for line, row in rows]


def _json_rows(text: str, name: str) -> list[tuple[int, Any]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # splitlines() would cut at a U+2028 within a prompt
        if line.strip():
            value = jsonfile.parsed_json(line)
            if isinstance(value, ValueError):
                where = f"malformed context in {name}, line {number}"
                raise UserError(where, rule="one JSON object a line", found=value, fix=_FORMAT)
            rows.append((number, value))
    return rows


def _csv_rows(text: str, name: str) -> list[tuple[int, Any]]:
    headings, records = delimited(io.StringIO(text, newline=""), name)
    _refuse_data(headings, name)
    if "prompt" not in headings or "gold" not in headings:
        fix = f"a first line prompt,gold,rival; or JSON Lines, one a line: {_FORMAT}"
        raise UserError(
            f"{name} is neither JSON Lines nor CSV", found=f"line 1 reads {text.splitlines()[0]!r}", fix=fix
        )
    return [(number, _csv_row(row, f"{name}, line {number}")) for number, row in records]


def _csv_row(row: dict[str, str] | ValueError, where: str) -> dict[str, Any]:
    if isinstance(row, ValueError):
        raise UserError(f"malformed context in {where}", rule="as many fields as headings", found=row)
    return {key: _cell(key, field) for key, field in row.items() if field or key in {"prompt", "gold"}}


def _cell(key: str, text: str) -> Any:
    """A field of CSV: token ids are written as in JSON."""
    try:
        return json.loads(text) if key in _ID_FIELDS else text
    except (ValueError, RecursionError):
        return text


def _context(row: Any, where: str) -> Context:
    if not isinstance(row, Mapping):
        raise UserError(f"malformed context in {where}", rule="a JSON object", found=repr(row), fix=_FORMAT)
    _refuse_data(row, where)
    unknown = sorted(set(row) - set(FIELDS))
    if unknown:
        rule, nearest = f"the fields are {', '.join(FIELDS)}", _OTHER_NAMES.get(unknown[0].lower())
        fix = did_you_mean(nearest or unknown[0].lower(), set(FIELDS) - set(row)) or "remove or rename it"
        raise UserError(f"unknown field in {where}", rule=rule, found=", ".join(unknown), fix=fix)
    for key, (required, fits, rule) in _RULES.items():
        value = row.get(key)
        if not (not required if value is None else fits(value)):
            found = "missing" if key not in row else repr(value)
            raise UserError(f"malformed context in {where}", rule=f"{key!r} is {rule}", found=found, fix=_FORMAT)
    for key in _WORD_FIELDS if row.get("prompt_ids") else _TEXT_FIELDS:  # a prompt of ids may be blank as text
        if row.get(key) is not None and not row[key].strip():
            raise UserError(f"empty {key} in {where}", rule="not empty", found=repr(row[key]))
    if row.get("rival") == row["gold"]:
        raise UserError(f"gold and rival are the same word in {where}", rule="two words", found=repr(row["gold"]))
    try:
        return Context(**row)
    except UserError as error:
        raise UserError(f"{error.what} in {where}", rule=error.rule, found=error.found) from None


def _refuse_data(fields: Iterable[str], where: str) -> None:
    """Say that rows are those of a data set, which has no gold word."""
    names = list(fields)
    if "gold" not in names and _DATA.intersection(names):
        rule = "contexts are prompts with the right next word: " + _FORMAT
        fix = "`borngap scan DATA --model MODEL --out SCAN --export-contexts 20` finds the contexts of a data set"
        raise UserError(f"{where} is a data set", rule=rule, found=f"the fields {', '.join(names)}", fix=fix)


def _given(context: Context, tokenizer: Any) -> Target:
    """A context's own token ids, once it is sure that they are this tokenizer's."""
    prompt, gold, rival = context.prompt_ids or (), int(context.gold_id or 0), context.rival_id
    if not prompt or gold == rival:
        found = f"{len(prompt)} tokens of prompt, gold {gold}, rival {rival}"
        raise UserError("these token ids make no context", rule="a prompt, and two tokens after it", found=found)
    # a prompt written by hand lacks the start token, and some tokenizers' words lose their space when they stand alone
    if text_ids(context.prompt, tokenizer) != list(prompt):
        _refuse_foreign("prompt", context.prompt, prompt, tokenizer)
    for word, token in ((context.gold, gold), (context.rival, rival)):
        if word is not None and token is not None:
            _refuse_foreign("word", word.strip(), (token,), tokenizer, str.strip)
    return Target(context, prompt, gold, rival, _own_note(context), fragment=False)


def _refuse_foreign(kind: str, text: str, ids: Sequence[int], tokenizer: Any, tidy: Callable[[str], str] = str) -> None:
    there = tidy(decoded(ids, tokenizer)) if known(ids, tokenizer) else ""
    if there != text:
        rule, found = f"the ids of a {kind} give its text", f"{there[-_SHOWN_TEXT:]!r} for {text[-_SHOWN_TEXT:]!r}"
        fix = "use the model whose tokenizer they are of, export the contexts again with this one, or take out the ids"
        raise UserError("token ids of another tokenizer", rule=rule, found=found, fix=fix)


def _own_note(context: Context) -> dict[str, str]:
    return {"context": context.note} if context.note else {}


def _word_ids(prompt: str, prompt_ids: list[int], word: str, tokenizer: Any) -> list[int]:
    whole = text_ids(prompt + word, tokenizer)
    if whole[: len(prompt_ids)] != prompt_ids:
        raise UserError(
            f"the word {word!r} changes how the end of its prompt is cut into tokens",
            rule="the tokens of the prompt are the beginning of those of prompt + word",
            found=" against ".join(
                _tokens(ids[max(0, len(prompt_ids) - 4) :], tokenizer) for ids in (prompt_ids, whole)
            ),
            fix=_cure(prompt, word, tokenizer),
        )
    if len(whole) == len(prompt_ids):
        raise UserError("a word has no tokens", rule="at least one token", found=repr(word))
    return whole[len(prompt_ids) :]


def _cure(prompt: str, word: str, tokenizer: Any) -> str:
    """How to write prompt and word so that the word is a word of its own."""
    cure = "give the word its leading space and end the prompt without one"
    alone = spaced(prompt, word, tokenizer)
    return f"{cure}: {quoted(alone)} is one token here" if alone else cure


def _glued_note(name: str, prompt: str, word: str, tokenizer: Any) -> dict[str, str]:
    """Say that a word is measured as the end of the prompt's last word, where it is a word of its own with a space."""
    alone = spaced(prompt, word, tokenizer) if prompt[-1:].isalnum() and word[:1].isalnum() else None
    if alone is None:
        return {}
    told = f"{quoted(word)} has no leading space, so it is read as {quoted(prompt.split()[-1] + word)}"
    return {f"{name}'s space": f"{told}; {quoted(alone)}, with its space, is one token"}


def _tokens(ids: Sequence[int], tokenizer: Any) -> str:
    return " ".join(quoted(tokenizer.decode([i])) for i in ids)


def _fragment_note(name: str, word: str, measured: list[int], ids: list[int], tokenizer: Any) -> dict[str, str]:
    if len(ids) == 1:
        return {}
    return {name: f"{quoted(word)} is {len(ids)} tokens; measured is the fragment {_tokens(measured, tokenizer)}"}
