"""The corpus of the bundled models: English prose from the docstrings of installed packages.

Nothing is shipped: the text is rebuilt from the packages named in ``packages.json``, at the versions pinned there.
Packages are read as files and never imported.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path

from borngap.errors import UserError

PACKAGES_FILE = Path(__file__).with_name("packages.json")

_ROLE = re.compile(r":[a-zA-Z:+]+:`~?\.?([^`<]*?)(?:\s*<[^`>]*>)?`")
_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]+>`_{0,2}")
_MARKUP = re.compile(r"``([^`]*)``|`([^`]*)`_{0,2}|\*\*([^*\s][^*]*)\*\*|\*([^*\s][^*]*)\*|\[([^\]]+)\]\([^)]*\)")
_NUMPY_HEADER = re.compile(r"^\*{0,2}\w[\w.,*\s]*\s:\s.*$|^\*{0,2}\w+$|^[-=~^\"'*+#]{3,}$|^(?:\.\.|:\w[\w\s*]*:)")
_GOOGLE_HEADER = re.compile(r"^\*{0,2}\w+\s*(?:\([^)]*\))?:\s+(?=[A-Z])|^:\w+(?:\s+[\w*]+)*:\s+")
_BULLET = re.compile(r"^(?:[-*+•]|\d{1,2}[.)]|#\.)\s+")
_CODE = re.compile(r">>>|\.\.\.\s|\\|\$|[{}=|<>]|\w\(|__|https?://|\w\.\w+\.\w")
_BODIES = ("body", "handlers", "orelse", "finalbody", "cases")  # where a statement holds others, in the syntax's order
_STOPWORDS = frozenset(
    {"the", "a", "an", "of", "to", "is", "are", "in", "and", "for", "be", "this", "that", "with", "if", "by", "on"}
    | {"as", "it", "or", "not", "from"}
)


@dataclass(frozen=True)
class Corpus:
    """Prose of the pinned packages, split by package.

    Attributes:
        train: documents (one docstring's prose paragraphs, newline-joined) of the training packages.
        held_out: documents of the held-out packages, without any paragraph that also occurs in ``train``.
        packages: name -> version, of every package read.
        sha256: digest of all documents in order; equal digests mean equal corpora.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    packages: dict[str, str]
    sha256: str


def pinned_packages() -> dict[str, dict[str, str]]:
    """Return ``{"train": {name: version}, "held_out": {name: version}}`` as pinned in the package."""
    return json.loads(PACKAGES_FILE.read_text(encoding="utf-8"))


def build_corpus(site: Path | None = None) -> Corpus:
    """Read the pinned packages and return their docstring prose.

    Args:
        site: a further folder of installed packages (``pip install --target``), read besides ``sys.path``.

    Returns:
        The corpus; the same packages give the same bytes on every machine.

    Raises:
        UserError: a pinned package is missing or has another version.
    """
    found = _find_distributions(site)
    pinned = {
        part: [_pinned(found, name, version) for name, version in sorted(pins.items())]
        for part, pins in pinned_packages().items()
    }
    seen: set[str] = set()
    split = {}
    for part in ("train", "held_out"):  # training first: a shared paragraph stays in training only
        texts = (text for dist in pinned[part] for text in _docstrings(dist))
        split[part] = tuple(_unique_documents(texts, seen))
    digest = hashlib.sha256("\0".join(split["train"] + ("\1",) + split["held_out"]).encode()).hexdigest()
    packages = {name: version for pins in pinned_packages().values() for name, version in pins.items()}
    return Corpus(split["train"], split["held_out"], packages, digest)


def package_prose(name: str) -> Iterator[str]:
    """Return the docstring prose of one installed package, whatever its version.

    Args:
        name: of the distribution.

    Returns:
        Documents, as in ``Corpus``.

    Raises:
        UserError: it is not installed.
    """
    found = _find_distributions(None).get(_canonical(name))
    if not found:
        raise UserError(f"{name} is not installed", rule="an installed package", fix=f"pip install {name}")
    return _unique_documents(_docstrings(found[0]), set())


def prose(docstring: str) -> list[str]:
    """Return the English prose paragraphs of one docstring, markup removed, one line each.

    Code, doctests, tables, headings and parameter headers are left out; a parameter's description is kept.
    """
    return [text for text in map(_plain, _paragraphs(docstring)) if _is_prose(text)]


def _find_distributions(site: Path | None) -> dict[str, list[Distribution]]:
    found: dict[str, list[Distribution]] = {}
    for dist in distributions(path=([str(site)] if site else []) + sys.path):
        found.setdefault(_canonical(dist.metadata["Name"]), []).append(dist)
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pinned(found: dict[str, list[Distribution]], name: str, version: str) -> Distribution:
    candidates = found.get(_canonical(name), [])
    for dist in candidates:
        if dist.version.split("+")[0] == version:
            return dist
    have = ", ".join(dist.version for dist in candidates) or "none"
    raise UserError(
        f"corpus package {name} is not installed at its pinned version",
        rule=f"the corpus is rebuilt from {name}=={version}",
        found=have,
        fix="run `make corpus`, then `borngap zoo train NAME --site .corpus`",
    )


def _docstrings(dist: Distribution) -> Iterator[str]:
    for file in sorted({str(f) for f in dist.files or () if f.suffix == ".py"}):
        path = Path(str(dist.locate_file(file)))
        if path.is_file():
            yield from _docstrings_of_source(path.read_text(encoding="utf-8", errors="replace"))


def _docstrings_of_source(source: str) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError):  # templates and files for other Python versions
        return
    for node in _statements(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield inspect.cleandoc(text)


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Walk a module in the order of ``ast.walk``, without the expressions: no definition stands in one."""
    waiting: deque[ast.AST] = deque([tree])
    while waiting:
        node = waiting.popleft()
        for part in _BODIES:
            waiting.extend(getattr(node, part, ()))
        yield node


def _unique_documents(texts: Iterable[str], seen: set[str]) -> Iterator[str]:
    for text in texts:
        kept = []
        for paragraph in prose(text):
            key = paragraph.casefold()
            if key not in seen:
                seen.add(key)
                kept.append(paragraph)
        if kept:
            yield "\n".join(kept)


def _paragraphs(docstring: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", docstring):
        group: list[str] = []
        indent = None
        for raw in block.splitlines():
            line, depth = raw.strip(), len(raw) - len(raw.lstrip())
            bullet = _BULLET.match(line) or _GOOGLE_HEADER.match(line)
            if bullet or _NUMPY_HEADER.match(line) or (indent is not None and depth < indent):
                yield " ".join(group)
                group, indent = [], None
                line = line[bullet.end() :] if bullet else ("" if _NUMPY_HEADER.match(line) else line)
            elif group:
                indent = depth  # the second line of a hanging paragraph sets its depth
            if line:
                group.append(line)
        yield " ".join(group)


def _plain(text: str) -> str:
    text = _LINK.sub(r"\1", _ROLE.sub(r"\1", text))
    text = _MARKUP.sub(lambda m: next(g for g in m.groups() if g is not None), text)
    return re.sub(r"\s+", " ", text).strip()


@cache
def _is_word(token: str) -> bool:
    return re.fullmatch(r"[(\"']*[A-Za-z][A-Za-z'-]*[)\"'.,;:!?]*", token) is not None


def _is_prose(text: str) -> bool:
    words = text.split()
    if len(words) < 6 or not text.isascii() or text[0].islower() or _CODE.search(text):
        return False
    wordlike = sum(map(_is_word, words)) / len(words)
    return wordlike >= 0.85 and any(w.lower() in _STOPWORDS for w in words) and text[-1] in ".:;!?)"
