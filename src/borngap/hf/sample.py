"""Contexts taken from a data set: positions that a training run learns, as next-token predictions to watch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from borngap.context import Context, Target
from borngap.errors import UserError
from borngap.tokens import starts_word

IGNORED = -100
_LONGEST = 512
_TRIES = 8


def sample_targets(
    dataset: Any, tokenizer: Any, count: int = 8, *, collate: Callable[[list[Any]], Any] | None = None, seed: int = 0
) -> list[Target]:
    """Choose target positions of a data set, one an example, at tokens that begin a word where there are any.

    Args:
        dataset: tokenised examples with ``input_ids`` and, optionally, ``labels``; random examples are drawn if it has
            a length, else the first ones are taken.
        tokenizer: its tokenizer.
        count: how many.
        collate: the host's collator, which may make the labels; called with one example at a time.
        seed: seeds the choice.

    Returns:
        At most ``count`` targets; competitors are yet to be chosen.

    Raises:
        UserError: no example has a position to learn.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # a collator may draw random numbers
        found = (
            _target(*_ids_and_labels(e, collate), tokenizer, generator) for e in _examples(dataset, count, generator)
        )
        targets = list(islice((target for target in found if target is not None), count))
    if not targets:
        rule = "an example has a token to learn after its first one"
        raise UserError("the data set has no targets", rule=rule, fix="give contexts")
    return targets


def _examples(dataset: Any, count: int, generator: torch.Generator) -> Iterator[Any]:
    if not hasattr(dataset, "__len__"):
        yield from islice(iter(dataset), _TRIES * count)
        return
    for index in torch.randperm(len(dataset), generator=generator)[: _TRIES * count].tolist():
        yield dataset[index]


def _ids_and_labels(example: Any, collate: Callable[[list[Any]], Any] | None) -> tuple[Tensor, Tensor]:
    batch = example if collate is None else collate([example])
    ids = torch.as_tensor(batch["input_ids"]).flatten().cpu()
    labels = torch.as_tensor(batch["labels"]).flatten().cpu() if "labels" in batch else ids
    mask = torch.as_tensor(batch["attention_mask"]).flatten().bool().cpu() if "attention_mask" in batch else ids >= 0
    return ids[mask], labels[mask]


def _target(ids: Tensor, labels: Tensor, tokenizer: Any, generator: torch.Generator) -> Target | None:
    special = torch.tensor(sorted(tokenizer.all_special_ids), dtype=torch.long)
    learnt = (labels != IGNORED) & ~torch.isin(ids, special)
    positions = [i for i in learnt.nonzero().flatten().tolist() if 1 <= i < _LONGEST]
    starts = [i for i in positions if starts_word(int(ids[i]), tokenizer)]
    choice = starts or positions
    if not choice:
        return None
    at = choice[int(torch.randint(len(choice), (1,), generator=generator))]
    gold = int(ids[at])
    context = Context(tokenizer.decode(ids[:at].tolist()), tokenizer.decode([gold]))
    notes = {"gold": "taken from the data: the token at one position, which may be a part of a word"}
    return Target(context, tuple(ids[:at].tolist()), gold, None, notes, fragment=at not in starts)
