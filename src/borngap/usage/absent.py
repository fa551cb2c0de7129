"""What stands in data that lacks the words of terms: the same in another case, other forms, and words spelt alike."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NoReturn

from borngap.errors import UserError
from borngap.scanning.supervised import Example
from borngap.usage.places import Placer
from borngap.words.inflection import related
from borngap.words.occurrences import words_in
from borngap.words.relation import relation
from borngap.words.term import Term

_SHOWN, _NEAR = 8, 3
_LIKE = 0.75  # least similarity of spelling


def refuse_empty(
    terms: Sequence[Term], examples: Iterable[Example], placer: Placer, name: str, counts: Mapping[str, int],
    malformed: tuple[str, str] | None, supervised: str,
) -> NoReturn:  # fmt: skip
    """Say why data has no place of any term.

    Args:
        terms: the terms.
        examples: the data once more.
        placer: writes tokens as text.
        name: of the data.
        counts: ``rows``, ``malformed``, and ``hidden``, words in what is not supervised.
        malformed: place and reason of the first malformed row.
        supervised: what is supervised, in words.

    Raises:
        UserError: always.
    """
    if counts["hidden"]:
        rule = f"words in what is supervised: {supervised}"
        found, fix = f"{counts['hidden']} words elsewhere", "--loss all counts the prompts as well"
        raise UserError(f"no place of the terms in {name} is supervised", rule=rule, found=found, fix=fix)
    if not counts["rows"] - counts["malformed"]:
        found = "no rows" if malformed is None else ": ".join(malformed)
        raise UserError(f"no row of {name} can be read", rule="at least one", found=found)
    refuse_absent(terms, examples, placer, name)


def refuse_unmeasured(name: str, reasons: Sequence[tuple[str, str, int]]) -> NoReturn:
    """Say that no place of any term can be measured.

    Args:
        name: of the data.
        reasons: words of a term, why, and how many of its places.

    Raises:
        UserError: always.
    """
    raise UserError(
        f"this tokenizer can't hold the words of the terms apart anywhere in {name}",
        rule="both words differ at a token that both have, and rows cut them as they are cut alone",
        found="; ".join(f"{words}: {reason} ({count} places)" for words, reason, count in reasons[:_SHOWN]),
        fix="choose words of which neither is the beginning of the other",
    )


def refuse_absent(terms: Sequence[Term], examples: Iterable[Example], placer: Placer, name: str) -> NoReturn:
    """Say that no word of any term stands in the data, and what stands there instead.

    Args:
        terms: the terms.
        examples: the data once more.
        placer: writes tokens as text.
        name: of the data.

    Raises:
        UserError: always.
    """
    there: Counter[str] = Counter()
    for example in examples:
        for document in example.documents:
            there.update(words_in(placer.text(example.ids[document.start : document.stop])))
    wanted = list(dict.fromkeys(word for term in terms for word in (term.use, term.avoid)))
    found = [f"{word!r} not, but {near}" for word in wanted if (near := ", ".join(_near(word, there)))]
    rule = "some word to use or to avoid, in any form"
    fix = "check the language and the case of the terms, and the data"
    names = ", ".join(map(repr, wanted[:_SHOWN]))
    told = "; ".join(found[:_SHOWN]) or f"nothing like {names}"
    raise UserError(f"no word of the terms stands in {name}", rule=rule, found=told, fix=fix)


def absent_note(words: Sequence[str], there: Collection[int], what: str) -> list[str]:
    """Name words that stand nowhere: misspelt, in another case, or of another language.

    Args:
        words: of each term, as they are said.
        there: indices of those that stand somewhere.
        what: what is said of the others.

    Returns:
        One note, or none.
    """
    missing = list(dict.fromkeys(said for i, said in enumerate(words) if i not in there))
    named = ", ".join(missing[:_SHOWN]) + ", ..." * (len(missing) > _SHOWN)
    return [f"{what}, {len(missing)} of {len(set(words))}: {named}"] if missing else []


def _near(word: str, there: Counter[str]) -> Iterator[str]:
    """Words of the data that are nearest to a word, other spellings of it first, with how often they stand there."""
    last = word.split()[-1]
    alike = [other for other in there if other.lower() == last.lower() or related(other, last)]
    if not alike:
        alike = difflib.get_close_matches(last, list(there), _NEAR, _LIKE)
    for other in sorted(alike, key=lambda other: (relation(last, other) != "spelling", -there[other]))[:_NEAR]:
        yield f"{other!r} ({there[other]})"
