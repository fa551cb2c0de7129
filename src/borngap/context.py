"""Contexts: a prompt, its right next word, and the near-synonym that competes with it."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from borngap.errors import UserError

FIELDS = ("prompt", "gold", "competitor")
BUNDLED = ("docs10", "docs40", "paper10")
_FOLDER = Path(__file__).parent / "contexts"
_FORMAT = '{"prompt": "...", "gold": " shame", "competitor": " guilt"}'


@dataclass(frozen=True)
class Context:
    """One next-token prediction to watch.

    Attributes:
        prompt: the text before the word, not empty.
        gold: the right next word, with its leading space if it has one.
        competitor: its near-synonym; None to have it chosen by the model's geometry.
    """

    prompt: str
    gold: str
    competitor: str | None = None


@dataclass(frozen=True)
class Target:
    """A context as token ids of one tokenizer.

    Attributes:
        context: the context.
        ids: prompt token ids, with the tokens that gold and competitor share moved in.
        gold_id: the token that is measured for gold.
        competitor_id: the same for the competitor; None if it is yet to be chosen.
        notes: what the reader must know, by field: moved tokens, words measured by a fragment.
        fragment: whether a token that is measured is only a part of its word.
    """

    context: Context
    ids: tuple[int, ...]
    gold_id: int
    competitor_id: int | None
    notes: dict[str, str]
    fragment: bool

    @property
    def words(self) -> str:
        """Gold and its competitor, in a few words."""
        return f"{self.context.gold!r} over {self.context.competitor!r}"


def read_contexts(source: str | Path) -> list[Context]:
    """Read contexts from a file, from standard input (``-``) or by bundled name.

    Args:
        source: ``docs10``, ``docs40``, ``paper10``, ``-``, or the path of a JSON Lines or CSV file with the fields
            ``prompt``, ``gold`` and, optionally, ``competitor``.

    Returns:
        The contexts, at least one.

    Raises:
        UserError: the file is missing, empty or malformed; the message names the line.
    """
    name = str(source)
    if name in BUNDLED:
        return _parse((_FOLDER / f"{name}.jsonl").read_text(encoding="utf-8"), name)
    name = "standard input" if name == "-" else name
    try:
        text = Path(source).read_text(encoding="utf-8-sig") if str(source) != "-" else sys.stdin.read()
        return _parse(text, name)
    except OSError as error:
        found, fix = f"{name} ({error.strerror})", f"give a JSON Lines or CSV file, or one of {', '.join(BUNDLED)}"
        raise UserError("contexts file can't be read", found=found, fix=fix) from None
    except UnicodeDecodeError:
        raise UserError("contexts file is not text", rule="UTF-8, JSON Lines or CSV", found=name) from None


def write_contexts(contexts: Sequence[Context]) -> str:
    """Return contexts as JSON Lines, readable by ``read_contexts``."""
    rows = ({key: getattr(c, key) for key in FIELDS if getattr(c, key) is not None} for c in contexts)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def tokenize(context: Context, tokenizer: Any) -> Target:
    """Turn a context into token ids (spec section 1).

    Ids are those of prompt + word minus the prefix of the prompt's own ids, with the tokenizer's default special
    tokens and no trailing end-of-text. Of words of several tokens the first token at which gold and competitor
    differ counts; the tokens they share move into the prompt.

    Args:
        context: the context.
        tokenizer: a Hugging Face tokenizer.

    Returns:
        The target.

    Raises:
        UserError: the prompt's ids are no prefix, a word has no tokens, or both words are measured by one token.
    """
    prompt = _ids(context.prompt, tokenizer)
    if not prompt:
        raise UserError("the prompt has no tokens", rule="at least one token", found=repr(context.prompt))
    gold = _word_ids(context.prompt, prompt, context.gold, tokenizer)
    if context.competitor is None:
        notes = _fragment_note("gold", context.gold, gold[:1], gold, tokenizer)
        return Target(context, tuple(prompt), gold[0], None, notes, fragment=len(gold) > 1)
    competitor = _word_ids(context.prompt, prompt, context.competitor, tokenizer)
    shared = next((i for i, (a, b) in enumerate(zip(gold, competitor, strict=False)) if a != b), None)
    if shared is None:
        raise UserError(
            "gold and competitor can't be told apart by one token",
            rule="they differ at a token that both have",
            found=" and ".join(_tokens(ids, tokenizer) for ids in (gold, competitor)),
            fix="choose words of which neither is the beginning of the other",
        )
    notes = {}
    if shared:
        moved = _tokens(gold[:shared], tokenizer)
        notes["prompt"] = f"the tokens that both words share were moved into the prompt: {moved}"
    for name, word, ids in (("gold", context.gold, gold), ("competitor", context.competitor, competitor)):
        notes |= _fragment_note(name, word, ids[shared : shared + 1], ids, tokenizer)
    prefix, fragment = (*prompt, *gold[:shared]), max(len(gold), len(competitor)) > 1
    return Target(context, prefix, gold[shared], competitor[shared], notes, fragment)


def _parse(text: str, name: str) -> list[Context]:
    rows = _json_rows(text, name) if text.lstrip().startswith("{") else _csv_rows(text, name) if text.strip() else []
    if not rows:
        raise UserError("no contexts", rule="at least one", found=f"{name} is empty", fix=f"one a line: {_FORMAT}")
    return [_context(row, f"{name}, line {line}") for line, row in rows]


def _json_rows(text: str, name: str) -> list[tuple[int, Any]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # splitlines() would cut at a U+2028 within a prompt
        if line.strip():
            try:
                rows.append((number, json.loads(line)))
            except json.JSONDecodeError as error:
                where, found = f"malformed context in {name}, line {number}", f"{error.msg} at column {error.colno}"
                raise UserError(where, rule="one JSON object a line", found=found, fix=_FORMAT) from None
    return rows


def _csv_rows(text: str, name: str) -> list[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        where = f"malformed context in {name}, line {reader.reader.line_num}"  # its own stays at the row before
        raise UserError(where, rule="CSV", found=str(error)) from None
    headings = reader.fieldnames or []
    if "prompt" not in headings or "gold" not in headings:
        fix = f"a first line prompt,gold,competitor; or JSON Lines, one a line: {_FORMAT}"
        raise UserError(
            f"{name} is neither JSON Lines nor CSV", found=f"line 1 reads {text.splitlines()[0]!r}", fix=fix
        )
    for number, row in rows:
        if None in row or None in row.values():
            rule = f"{len(headings)} fields, as in the headings"
            raise UserError(f"malformed context in {name}, line {number}", rule=rule, found="more or fewer fields")
    return [(n, {k: v for k, v in row.items() if k != "competitor" or v}) for n, row in rows]


def _context(row: Any, where: str) -> Context:
    if not isinstance(row, dict):
        raise UserError(f"malformed context in {where}", rule="a JSON object", found=repr(row), fix=_FORMAT)
    unknown = sorted(set(row) - set(FIELDS))
    if unknown:
        rule = f"the fields are {', '.join(FIELDS)}"
        raise UserError(f"unknown field in {where}", rule=rule, found=", ".join(unknown), fix="remove or rename it")
    for key in FIELDS:
        value = row.get(key)
        if not isinstance(value, str) and not (key == "competitor" and value is None):
            found = "missing" if key not in row else repr(value)
            raise UserError(f"malformed context in {where}", rule=f"{key!r} is a text", found=found, fix=_FORMAT)
        if value is not None and not value.strip():
            raise UserError(f"empty {key} in {where}", rule="not empty", found=repr(value))
    if row.get("competitor") == row["gold"]:
        raise UserError(f"gold and competitor are the same word in {where}", rule="two words", found=repr(row["gold"]))
    return Context(row["prompt"], row["gold"], row.get("competitor"))


def _ids(text: str, tokenizer: Any) -> list[int]:
    ids = list(tokenizer(text)["input_ids"])
    end = getattr(tokenizer, "eos_token_id", None)
    appended = end is not None and ids[-1:] == [end] and not text.endswith(tokenizer.eos_token)
    return ids[:-1] if appended and len(ids) > 1 else ids


def _word_ids(prompt: str, prompt_ids: list[int], word: str, tokenizer: Any) -> list[int]:
    whole = _ids(prompt + word, tokenizer)
    if whole[: len(prompt_ids)] != prompt_ids:
        raise UserError(
            f"the word {word!r} changes how the end of its prompt is cut into tokens",
            rule="the tokens of the prompt are the beginning of those of prompt + word",
            found=" against ".join(
                _tokens(ids[max(0, len(prompt_ids) - 4) :], tokenizer) for ids in (prompt_ids, whole)
            ),
            fix="give the word its leading space and end the prompt without one",
        )
    if len(whole) == len(prompt_ids):
        raise UserError("a word has no tokens", rule="at least one token", found=repr(word))
    return whole[len(prompt_ids) :]


def _tokens(ids: Sequence[int], tokenizer: Any) -> str:
    return " ".join(repr(tokenizer.decode([i])) for i in ids)


def _fragment_note(name: str, word: str, measured: list[int], ids: list[int], tokenizer: Any) -> dict[str, str]:
    if len(ids) == 1:
        return {}
    return {name: f"{word!r} is {len(ids)} tokens; measured is the fragment {_tokens(measured, tokenizer)}"}
