"""What stands in data that lacks the words of terms: the same in another case, other forms, and words spelt alike."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from borngap.errors import UserError
from borngap.scanning.supervised import Example
from borngap.usage.places import Placer
from borngap.words.inflection import related
from borngap.words.occurrences import words_in
from borngap.words.term import Term

_SHOWN, _NEAR = 8, 3
_LIKE = 0.75  # least similarity of spelling


def refuse_absent(terms: Sequence[Term], examples: Iterable[Example], placer: Placer, name: str) -> None:
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


def _near(word: str, there: Counter[str]) -> Iterator[str]:
    """Words of the data that are nearest to a word, with how often they stand there."""
    last = word.split()[-1]
    alike = [other for other in there if other.lower() == last.lower() or related(other, last)]
    if not alike:
        alike = difflib.get_close_matches(last, list(there), _NEAR, _LIKE)
    for other in sorted(alike, key=lambda other: -there[other])[:_NEAR]:
        yield f"{other!r} ({there[other]})"
