"""Contexts taken from a data set: positions that a training run learns, as next-token predictions to watch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch

from borngap.context import Context, Target
from borngap.data.tokenised import IGNORED
from borngap.errors import UserError
from borngap.tokens import starts_word
from borngap.track.batches import GIVE_CONTEXTS, LabelledIds, documents

_LONGEST_EXAMPLE = 512
_TRIES = 8
_TAKE_OWN_DATA = (
    "take the trainer's own data: trainer.add_callback(BornGapCallback(dataset=trainer.eval_dataset)); or give contexts"
)
Collate = Callable[[list[Any]], Any]
_MISFITS = (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError)


def sample_targets(
    dataset: Any, tokenizer: Any, count: int = 8, *, collate: Collate | None = None, seed: int = 0, apart: bool = True
) -> list[Target]:
    """Choose target positions of a data set at tokens that begin a word where there are any.

    One an example, as long as there are enough examples; then more of those that hold several documents.

    Args:
        dataset: tokenised examples with ``input_ids`` and, optionally, ``labels``, or what the collator takes; random
            examples are drawn if it has a length, else the first ones are taken.
        tokenizer: its tokenizer.
        count: how many.
        collate: the host's collator, which may make the labels; called with one example at a time.
        seed: seeds the choice.
        apart: whether the model keeps packed documents apart by their ``position_ids``.

    Returns:
        At most ``count`` targets; rivals are yet to be chosen.

    Raises:
        UserError: no example has a position to learn, or examples don't fit the collator.
    """
    generator = torch.Generator().manual_seed(seed)
    targets: list[Target] = []
    spare: list[Target] = []
    with _same_randomness():
        for example in _examples(dataset, count, generator):
            found = _targets(documents(_collated(example, collate), apart=apart), tokenizer, generator)
            targets += found[:1]
            spare += found[1:]
            if len(targets) == count:
                break
    if not targets:
        rule = "an example has a token to learn after its first one, and no images or sound beside its text"
        raise UserError("the data set has no targets", rule=rule, fix=GIVE_CONTEXTS)
    return targets + spare[: count - len(targets)]


@contextmanager
def _same_randomness() -> Iterator[None]:
    """Leave the host's random states as they are: a data set or a collator may draw random numbers."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _examples(dataset: Any, count: int, generator: torch.Generator) -> Iterator[Any]:
    if not hasattr(dataset, "__len__"):
        yield from islice(iter(dataset), _TRIES * count)
        return
    for index in torch.randperm(len(dataset), generator=generator)[: _TRIES * count].tolist():
        yield dataset[index]


def _collated(example: Any, collate: Collate | None) -> Any:
    if collate is None:
        return {"labels": example["input_ids"], **example}
    try:
        return collate([example])
    except _MISFITS as error:
        there = ", ".join(example) if isinstance(example, Mapping) else type(example).__name__
        found = f"{type(error).__name__}: {error}; the example has {there}"
        raise UserError("the trainer's collator does not take an example", found=found, fix=_TAKE_OWN_DATA) from error


def _targets(found: Sequence[LabelledIds], tokenizer: Any, generator: torch.Generator) -> list[Target]:
    """One target of each document that has any, in random order."""
    order = torch.randperm(len(found), generator=generator).tolist()
    targets = (_target(found[i], tokenizer, generator) for i in order)
    return [target for target in targets if target is not None]


def _target(document: LabelledIds, tokenizer: Any, generator: torch.Generator) -> Target | None:
    ids, labels = document
    special = torch.tensor(sorted(tokenizer.all_special_ids), dtype=torch.long)
    learnt = (labels != IGNORED) & ~torch.isin(labels, special)
    positions = [i for i in learnt.nonzero().flatten().tolist() if 1 <= i < _LONGEST_EXAMPLE]
    starts = [i for i in positions if starts_word(int(labels[i]), tokenizer)]
    choice = starts or positions
    if not choice:
        return None
    at = choice[int(torch.randint(len(choice), (1,), generator=generator))]
    gold = int(labels[at])
    context = Context(tokenizer.decode(ids[:at].tolist()), tokenizer.decode([gold]))
    notes = {"gold": "taken from the data: the token at one position, which may be a part of a word"}
    return Target(context, tuple(ids[:at].tolist()), gold, None, notes, fragment=at not in starts)
