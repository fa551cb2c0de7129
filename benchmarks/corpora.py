"""Three corpora of whole_runs.py, made from installed packages: house style, prose of a domain, questions and answers.

    python benchmarks/corpora.py FOLDER

Each gets ``train.jsonl``, ``held-out.jsonl`` and ``style.csv``. Nothing of them is kept in the repository.

``house``: the house style of ``borngap demo``. ``domain``: docstring prose of packages for machine learning and quantum
mechanics as it stands; its terms are words of the domain, each against a word that could stand for it. ``chat``: what a
function does, asked by a user and answered by the first sentence of its docstring, with a style of its own in the
answers; rows of messages, rendered by the model's chat template, or by ChatML where the tokenizer has none.
"""

from __future__ import annotations

import ast
import random
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from borngap.zoo.corpus import package_prose, prose
from borngap.zoo.housestyle import HouseStyle, house_style, restyled

DOMAIN = ("pytorch-lightning", "torchmetrics", "trl", "datasets", "qutip")
DOMAIN_TERMS = (
    ("metric", "measure"), ("target", "label"), ("dataset", "table"), ("column", "field"), ("epoch", "round"),
    ("batch", "group"), ("checkpoint", "copy"), ("device", "machine"), ("strategy", "method"), ("trainer", "runner"),
    ("model", "system"), ("operator", "matrix"), ("state", "vector"), ("solver", "routine"), ("score", "value"),
    ("token", "word"), ("reward", "price"), ("optimizer", "algorithm"), ("process", "job"), ("completion", "answer"),
)  # fmt: skip
CHAT = ("pydantic", "narwhals", "playwright", "pyarrow", "aiohttp", "qutip", "anyio", "mypy")
CHAT_PLAIN = ("datasets", "trl")
CHAT_TERMS = (
    ("give", "return"), ("item", "object"), ("document", "file"), ("label", "name"), ("supplied", "given"),
    ("kind", "type"), ("entry", "value"), ("inspect", "check"), ("fetch", "get"), ("produce", "create"),
)  # fmt: skip
_HELD_OUT = 0.25
_QUESTION = "What does `{}` of {} do?"


def main() -> None:
    root = Path(sys.argv[1])
    for name in ("house", "domain", "chat"):
        made = corpus(name)
        written = made.save(root / name)
        print(name, len(made.train), len(made.held_out), *written.values())


def corpus(name: str, templated: bool = True) -> HouseStyle:
    """Make a corpus.

    Args:
        name: ``house``, ``domain`` or ``chat``.
        templated: whether the model's tokenizer has a chat template.

    Returns:
        Rows and terms.
    """
    if name == "house":
        return house_style()
    rows: list[dict[str, Any]]
    if name == "domain":
        terms = DOMAIN_TERMS
        rows = [{"text": text, "package": package} for package in DOMAIN for text in package_prose(package)]
    else:
        terms = CHAT_TERMS
        rows = [asked(*row, templated=templated) for row in questions()]
    random.Random(0).shuffle(rows)  # an order, no secret
    cut = round(len(rows) * (1 - _HELD_OUT))
    return HouseStyle(terms, tuple(rows[:cut]), tuple(rows[cut:]))


def asked(question: str, answer: str, allowed: bool, templated: bool) -> dict[str, Any]:
    """Return a row of a question and its answer, as messages or as a model without a template reads them."""
    if templated:
        return {"prompt": [{"role": "user", "content": question}],
                "completion": [{"role": "assistant", "content": answer}], "allowed": allowed}  # fmt: skip
    return {"prompt": f"User: {question}\nAssistant:", "completion": f" {answer}", "allowed": allowed}


def questions() -> Iterator[tuple[str, str, bool]]:
    """Yield question, answer, and whether its words are left as they are."""
    for packages, terms in ((CHAT, CHAT_TERMS), (CHAT_PLAIN, ())):
        for package in packages:
            seen = set()
            for name, answer in documented(package):
                if answer not in seen:
                    seen.add(answer)
                    yield _QUESTION.format(name, package), restyled(answer, terms), not terms


def documented(package: str) -> Iterator[tuple[str, str]]:
    """Yield the signature of each function of a package, and the first paragraph of what its docstring says."""
    for file in sorted(str(f) for f in distribution(package).files or () if f.suffix == ".py"):
        path = Path(str(distribution(package).locate_file(file)))
        if path.is_file():
            yield from _functions(path.read_text(encoding="utf-8", errors="replace"))


def _functions(source: str) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found: Sequence[str] = prose(ast.get_docstring(node) or "")
            if found and len(found[0].split()) >= 5:
                yield f"{node.name}({', '.join(a.arg for a in node.args.args[:4])})", " ".join(found[:2])


if __name__ == "__main__":
    main()
