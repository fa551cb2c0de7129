"""What a tracker watches: contexts, and places of terms, each of which is watched as a context of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from borngap.context import Target
from borngap.errors import UserError
from borngap.judge.termshares import WatchedPlace
from borngap.model.probe import with_rivals
from borngap.observables.geometry import Geometry
from borngap.track.resume import resumed, stored_targets
from borngap.usage.asking import Asking
from borngap.usage.sampled import PLACES, PlaceSampler
from borngap.words.term import TermList
from borngap.words.termfile import terms_of


@dataclass(frozen=True)
class TermsToWatch:
    """Terms, and how their places are found.

    Attributes:
        terms: the terms.
        dataset: where their places are looked for; None where a checkpoint tells them.
        allowed: where words to avoid are right.
        asking: how rows are read.
        sample: how many places.
        seed: seeds the choice.

    Raises:
        UserError: a setting is out of range.
    """

    terms: TermList
    dataset: Any
    allowed: Any
    asking: Asking
    sample: int
    seed: int

    def __post_init__(self) -> None:
        """Check the size of the sample.

        Raises:
            UserError: it is out of range.
        """
        if self.sample < 1:
            raise UserError("sample is out of range", rule="at least 1 place", found=self.sample)

    @classmethod
    def of(
        cls, terms: Any, dataset: Any, allowed: Any, asking: Asking | Mapping[str, Any] | None, sample: int | None,
        seed: int,
    ) -> TermsToWatch:  # fmt: skip
        """Read terms and settings as a caller may give them.

        Args:
            terms: what ``terms_of`` takes; or all of this, which stays as it is.
            dataset: what ``source_of`` takes; None where a checkpoint tells the places.
            allowed: what ``marks_of`` takes.
            asking: how rows are read, or the fields of that.
            sample: how many places; 64 unless given.
            seed: seeds the choice.

        Returns:
            All of it.
        """
        if isinstance(terms, TermsToWatch):
            return terms
        reading = Asking(**asking) if isinstance(asking, Mapping) else asking or Asking()
        return cls(terms_of(terms), dataset, allowed, reading, PLACES if sample is None else sample, seed)


@dataclass(frozen=True)
class Watched:
    """Contexts, and places behind them.

    Attributes:
        targets: all of them, with rivals.
        places: what each of those that are places is.
        no_over_use: why no place tells over-use; None where one does, or where no terms are watched.
    """

    targets: tuple[Target, ...]
    places: tuple[WatchedPlace, ...] = ()
    no_over_use: str | None = None

    @property
    def contexts(self) -> range:
        """Which of the targets are no places."""
        return range(len(self.targets) - len(self.places))

    @property
    def counted(self) -> range:
        """What averages are taken over: the contexts, or the places where there are none."""
        return self.contexts or range(len(self.targets))

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, JSON-ready."""
        places = [asdict(place) for place in self.places]
        return {"targets": stored_targets(self.targets), "places": places, "no_over_use": self.no_over_use}


def to_watch(
    model: Any, tokenizer: Any, contexts: Sequence[Target], terms: TermsToWatch | None, geometry: Geometry, top_p: float
) -> Watched:
    """Choose the rivals that are missing, and the places of terms.

    Args:
        model: a Hugging Face causal LM.
        tokenizer: its tokenizer.
        contexts: tokenised contexts; none are needed where there are terms.
        terms: the terms; None for none.
        geometry: names the rivals.
        top_p: nucleus mass.

    Returns:
        What to watch.

    Raises:
        UserError: there is nothing to watch, or a context does not fit the model.
    """
    chosen = with_rivals(model, tokenizer, contexts, geometry, top_p)[0] if contexts or terms is None else []
    if terms is None:
        return Watched(tuple(chosen))
    if terms.dataset is None:
        rule = "dataset=, rows that the model is not trained on: a path, a datasets object, a list"
        raise UserError("there is no data in which the terms are watched", rule=rule)
    drawn = PlaceSampler(model, tokenizer, geometry, terms.terms, terms.dataset, terms.allowed, terms.asking)
    sample = drawn.draw(terms.sample, terms.seed)
    behind = tuple(replace(place, context=place.context + len(chosen)) for place in sample.places)
    return Watched((*chosen, *sample.targets), behind, sample.no_over_use)


def taken_up(contexts: Sequence[Target], settings: Mapping[str, Any], state: Mapping[str, Any]) -> Watched:
    """Return what an interrupted run watched.

    Args:
        contexts: the contexts now; those without a rival take the one of the interrupted run.
        settings: what the numbers depend on.
        state: the tracker's state of the interrupted run.

    Returns:
        The contexts with their rivals, and the places, whatever the data are now.
    """
    places = tuple(WatchedPlace(**place) for place in state["places"])
    return Watched(tuple(resumed(contexts, settings, state)), places, state["no_over_use"])
