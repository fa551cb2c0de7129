"""Terms from a substitution rule of Vale: YAML, ``extends: substitution``, under ``swap`` what to avoid and to use.

https://vale.sh/docs/checks/substitution. Keys are regular expressions, values may be several words with ``|`` between.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import regex
import yaml

from borngap.data.textfile import whole_text
from borngap.errors import UserError
from borngap.words.inflection import related
from borngap.words.term import LeftOut, Term
from borngap.words.termfiles.expansion import Expansion, expand

_QUOTED = re.compile("'[^']+'")  # Microsoft's rules: 'carry out' or 'do'
_GROUP = re.compile(r"\$\d|\$\{|\(\?|\[\^")
_FLAGS = ("ignorecase", "nonword")
_FIX = "mend the expression, or take the line out"


def read_vale(path: Path) -> Iterator[Term | LeftOut]:
    """Read a substitution rule.

    A key that stands for few strings becomes these; any other stays a regular expression that finds what to avoid, and
    of its strings the first one is the rival. Words are inflected, which Vale's own rules leave to the expression.

    Args:
        path: the file.

    Yields:
        Terms, and what makes none.

    Raises:
        UserError: it is no YAML, no substitution rule, or an expression does not compile or matches the empty string.
    """
    fields = _fields(path)
    options = {name: _flag(fields.get(name), name, path) for name in _FLAGS}
    exceptions = tuple(_expression(node, path) for node in _listed(fields.get("exceptions"), "exceptions", path))
    for key, value in _pairs(fields["swap"], path):
        where = f"{path.name}, line {key.start_mark.line + 1}"
        pattern = _expression(key, path)
        wanted, reason = _wanted(value.value)
        if reason:
            yield LeftOut(value.value, key.value, where, reason)
        else:
            expansion = expand(pattern, cased=not options["ignorecase"])
            yield from _terms(wanted, pattern, expansion, where, exceptions, whole=not options["nonword"])


def _terms(
    wanted: list[str], pattern: str, expansion: Expansion, where: str, exceptions: tuple[str, ...], *, whole: bool
) -> Iterator[Term]:
    """The terms of one line: each wanted word with each avoided one; a pattern that stays one is with its first."""
    avoided = _distinct(expansion) if expansion.complete else list(expansion.texts[:1] or (pattern,))
    # an expression may cover what is right, and Vale does not complain of that
    others = [text for text in avoided if text not in wanted] or avoided
    for use in wanted:
        for avoid in others:
            kept = None if expansion.complete else pattern
            yield Term(use, avoid, where, expansion.cased, whole=whole, pattern=kept, exceptions=exceptions)


def _distinct(expansion: Expansion) -> list[str]:
    """Spellings that are no form of an earlier one, nor the same in another case that does not count."""
    found: dict[str, str] = {}
    for text in (" ".join(text.split()) for text in expansion.texts):
        if not any(related(text, other) and text != other and text.startswith(other) for other in found.values()):
            found.setdefault(text if expansion.cased else text.casefold(), text)
    return list(found.values())


def _wanted(value: str) -> tuple[list[str], str | None]:
    """The wanted words of a value, or why there is none."""
    if not value.strip():
        return [], "it says to leave the word out, and names none to use"
    if _GROUP.search(value):
        return [], "the wanted word is made of parts of the match"
    parts = re.split(r"\s+or\s+", value) if _QUOTED.search(value) else value.split("|")
    words = [" ".join(part.removesuffix("(s)").strip().strip("'").split()) for part in parts]
    return list(dict.fromkeys(word for word in words if word)), None


def _fields(path: Path) -> dict[str, Any]:
    """The rule's fields as nodes, which know their lines."""
    text = whole_text(path)
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path.name}, line {mark.line + 1}" if mark else path.name
        found = getattr(error, "problem", None) or "nested too deeply"
        raise UserError(f"malformed YAML in {where}", rule="a rule of Vale", found=found) from None
    fields = {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}
    extends = getattr(fields.get("extends"), "value", None)
    if extends != "substitution" or "swap" not in fields:
        found = "no field 'swap'" if extends == "substitution" else f"extends: {extends}" if extends else "no rule"
        rule = "extends: substitution, with a swap of what to avoid: what to use"
        raise UserError(f"{path.name} is no substitution rule of Vale", rule=rule, found=found)
    return fields


def _pairs(node: Any, path: Path) -> Iterator[tuple[Any, Any]]:
    """Keys and values of ``swap``, a mapping or a list of mappings."""
    for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        if not isinstance(part, yaml.MappingNode):
            raise _no_words(part, path)
        for key, value in part.value:
            if not isinstance(key, yaml.ScalarNode) or not isinstance(value, yaml.ScalarNode):
                raise _no_words(key, path)
            yield key, value


def _no_words(node: Any, path: Path) -> UserError:
    where = f"{path.name}, line {node.start_mark.line + 1}"
    return UserError(f"malformed swap in {where}", rule="lines of what to avoid: what to use", found=node.id)


def _listed(node: Any, name: str, path: Path) -> list[Any]:
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
        return []
    held = node.value if isinstance(node, yaml.SequenceNode) else [None]
    if not all(isinstance(part, yaml.ScalarNode) for part in held):
        where = f"{path.name}, line {node.start_mark.line + 1}"
        raise UserError(f"malformed {name} in {where}", rule="a list of words", found=node.id)
    return list(held)


def _flag(node: Any, name: str, path: Path) -> bool:
    if node is None:
        return False
    if node.tag != "tag:yaml.org,2002:bool":
        where = f"{path.name}, line {node.start_mark.line + 1}"
        raise UserError(f"malformed {name} in {where}", rule="true or false", found=node.value)
    return str(node.value).lower() in {"true", "yes", "on"}


def _expression(node: Any, path: Path) -> str:
    """An expression that compiles and does not match the empty string."""
    where, pattern = f"{path.name}, line {node.start_mark.line + 1}", str(node.value)
    try:
        empty = regex.fullmatch(pattern, "")
    except (regex.error, RecursionError, OverflowError) as error:
        found = f"{pattern} ({error})"
        raise UserError(f"no regular expression in {where}", rule="one that compiles", found=found, fix=_FIX) from None
    if empty or not pattern.strip():
        rule = "a word, or an expression that matches one"
        raise UserError(f"an expression that matches nothing at all in {where}", rule=rule, found=repr(pattern))
    return pattern
