"""How the whole words of a vocabulary are related, by token id; worked out when it is asked for, and kept.

What WordNet says of a tokenizer's words is kept on the disk as well, in ``BORNGAP_CACHE``/relations: a file a
vocabulary, of numbers alone (token ids, and the relation of two). It holds for one version of ``borngap.words`` and is
made anew where that changed; that it is damaged, or can't be written, is no error: words are looked up again then.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache, cached_property
from importlib.resources import files
from io import BytesIO
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary
from zipfile import BadZipFile

import numpy as np

from borngap.errors import UserError
from borngap.files import write_whole
from borngap.model.words import Words, words_of
from borngap.words.inflection import lemmas
from borngap.words.relation import RELATIONS, Relation, is_given, relation
from borngap.words.relatives import Relatives
from borngap.words.thesaurus import Thesaurus
from borngap.zoo import cache_folder

_UNREADABLE = (OSError, ValueError, KeyError, IndexError, EOFError, BadZipFile)


class TokenThesaurus:
    """What a thesaurus says of the tokens of one vocabulary."""

    def __init__(self, words: Words, thesaurus: Thesaurus | None = None) -> None:
        """Prepare; nothing is looked up yet.

        Args:
            words: the vocabulary as words.
            thesaurus: WordNet unless given.
        """
        self.words = words
        self._thesaurus = thesaurus
        self._synonyms: dict[int, list[int]] = {}
        self._relations: dict[tuple[int, int], Relation] = {}
        self._kept = 0

    def synonyms(self, token: int) -> list[int]:
        """Return the whole words that are synonyms or spellings of a whole word, ascending; none of others."""
        if token not in self._synonyms:
            places = self._relatives.of(self.words.text[token]) if self.words.whole[token] else ()
            self._synonyms[token] = [self._whole[place] for place in places]
        return self._synonyms[token]

    def relation(self, gold: int, rival: int) -> Relation:
        """Return how the words of two tokens are related."""
        pair = (gold, rival)
        if pair not in self._relations:
            texts = self.words.text
            self._relations[pair] = relation(texts[gold], texts[rival], thesaurus=self._thesaurus)
        return self._relations[pair]

    def read(self, file: Path) -> None:
        """Take over what was looked up before; nothing where the file is not there, damaged, or of other words."""
        with suppress(*_UNREADABLE), file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            if bytes(stored["version"]) == _version() and stored["size"] == len(self.words.text):
                tokens, ends, others, pairs = (stored[name].tolist() for name in _TABLES)
                names = [RELATIONS[code] for code in stored["relations"].tolist()]
                rows = [others[start:end] for start, end in pairwise((0, *ends))]
                known = dict(zip(tokens, rows, strict=True))
                self._relations = dict(zip(map(tuple, pairs), names, strict=True))
                self._synonyms = known
        self._kept = self._count

    def write(self, file: Path) -> None:
        """Store what was looked up, if that is more than was read; nothing where it can't be."""
        if self._count == self._kept:
            return
        stored = BytesIO()
        np.savez(stored, **self._arrays())
        own = file.with_name(f"{file.stem}-{os.getpid()}{file.suffix}")  # others may write at the same time
        with suppress(UserError, OSError):
            write_whole(own, stored.getvalue()).replace(file)
        self._kept = self._count

    def _arrays(self) -> dict[str, Any]:
        rows = self._synonyms
        tables = {
            "tokens": list(rows),
            "ends": list(accumulate(map(len, rows.values()))),
            "others": list(chain.from_iterable(rows.values())),
            "pairs": list(self._relations),
        }
        codes = [RELATIONS.index(name) for name in self._relations.values()]
        return {name: np.array(table, np.int32) for name, table in tables.items()} | {
            "relations": np.array(codes, np.uint8),
            "version": np.frombuffer(_version(), np.uint8),
            "size": np.array(len(self.words.text)),
        }

    @property
    def _count(self) -> int:
        return len(self._synonyms) + len(self._relations)

    @cached_property
    def _whole(self) -> list[int]:
        return self.words.whole.nonzero().flatten().tolist()

    @cached_property
    def _relatives(self) -> Relatives:
        return Relatives([self.words.text[token] for token in self._whole], self._thesaurus)


class TokenRelations:
    """Relations of the tokens of one vocabulary: the user's pairs, and what a thesaurus says."""

    def __init__(
        self, words: Words, known: TokenThesaurus | None = None, given: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Prepare; nothing is looked up yet.

        Args:
            words: the vocabulary as words.
            known: what a thesaurus says of these tokens, of which more may be whole words to it; WordNet unless given.
            given: pairs of the user's.
        """
        self._words = words
        self._known = TokenThesaurus(words) if known is None else known
        self._given = frozenset((first.lower(), second.lower()) for first, second in given)

    def synonyms(self, token: int) -> list[int]:
        """Return the tokens that are synonyms, spellings or given for a whole word, ascending; none of others."""
        if not self._words.whole[token]:
            return []
        return sorted({*self._known.synonyms(token), *self.given.get(token, ())})

    @cached_property
    def given(self) -> Mapping[int, frozenset[int]]:
        """The whole words that the user's pairs give for a token, in any form; only of tokens that have one."""
        found: dict[int, set[int]] = {}
        for pair in self._given:
            for one, other in (pair, pair[::-1]):
                for token in self._forms.get(one, ()):
                    found.setdefault(token, set()).update(self._forms.get(other, ()))
        return {token: frozenset(others - {token}) for token, others in found.items() if others - {token}}

    def without_token(self, first: str, second: str) -> bool:
        """Return whether no form of one of the two words of a given pair is a whole word of the vocabulary."""
        return not (self._forms.get(first.lower()) and self._forms.get(second.lower()))

    @cached_property
    def _forms(self) -> Mapping[str, frozenset[int]]:
        """The whole words that are forms of a word of the user's pairs, in lower case."""
        sides = frozenset(word for pair in self._given for word in pair)
        found: dict[str, set[int]] = {}
        for token in self._words.whole.nonzero().flatten().tolist() if sides else ():
            text = self._words.text[token].strip()
            for base in sides.intersection((text.lower(), *lemmas(text))):
                found.setdefault(base, set()).add(token)
        return {word: frozenset(tokens) for word, tokens in found.items()}

    def relation(self, gold: int, rival: int) -> Relation:
        """Return how the words of two tokens are related."""
        if self._given and is_given(self._words.text[gold], self._words.text[rival], self._given):
            return "given"
        return self._known.relation(gold, rival)


_TABLES = ("tokens", "ends", "others", "pairs")
_KNOWN: WeakKeyDictionary[Any, tuple[int, TokenThesaurus]] = WeakKeyDictionary()


def vocabulary_relations(tokenizer: Any, size: int, words: Words | None = None) -> TokenThesaurus:
    """Return what WordNet says of a tokenizer's words; kept, and read anew where tokens were added.

    Args:
        tokenizer: a Hugging Face tokenizer.
        size: rows of the model.
        words: its words, if they are known: ``words_of(tokenizer, size)``.

    Returns:
        The relations.
    """
    state = hash((size, len(tokenizer)))
    known = _KNOWN.get(tokenizer)
    if known is None or known[0] != state:
        known = (state, TokenThesaurus(words or words_of(tokenizer, size)))
        known[1].read(_file(known[1].words))
        _KNOWN[tokenizer] = known
    return known[1]


def keep_relations(tokenizer: Any) -> None:
    """Store on the disk what was looked up of a tokenizer's words, for other processes."""
    if tokenizer in _KNOWN:
        known = _KNOWN[tokenizer][1]
        known.write(_file(known.words))


def _file(words: Words) -> Path:
    """Where the relations of a vocabulary lie: by its texts, and by which of them are whole words."""
    digest = hashlib.sha256("\0".join(words.text).encode("utf-8", "surrogatepass"))
    digest.update(words.whole.numpy().tobytes())
    return cache_folder() / "relations" / f"{digest.hexdigest()[:16]}.npz"


@cache
def _version() -> bytes:
    """A fingerprint of all that relations depend on: the files of ``borngap.words``, data and rules."""
    digest = hashlib.sha256()
    for file in sorted(files("borngap.words").iterdir(), key=lambda file: file.name):
        if file.name.endswith((".py", ".npz")):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.digest()
