"""What a tracker warns of while it watches: a worsening drag, and right words that fall though their lead grows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from borngap.judge.displacement import displaced, right_words
from borngap.judge.watch import Watch
from borngap.track.hostfacts import BornGapWarning
from borngap.track.watched import Watched
from borngap.train.observe import Record


class Alarms:
    """Warns, of each thing once."""

    def __init__(self, watched: Watched, watch: Watch) -> None:
        """Prepare.

        Args:
            watched: what is watched.
            watch: the rules' states.
        """
        self._watched, self._watch = watched, watch
        self._golds = right_words(len(watched.targets), watched.places)
        self._warned: set[int] = set()
        self._displaced = False

    def look(self, records: Sequence[tuple[int, Mapping[int, Record]]]) -> None:
        """Warn of what the last records show.

        Args:
            records: of all moments so far.
        """
        step = records[-1][0]
        for index in sorted(self._watch.worsening & set(self._watched.contexts) - self._warned):
            self._warned.add(index)
            words = self._watched.targets[index].context
            _warn(f"structural failure at step {step}: the drag of {words.gold!r} against {words.rival!r} worsens")
        found = None if self._displaced else displaced(records[0], records[-1], self._golds)
        if found is not None:
            self._displaced = True
            _warn(f"{found} (docs/remedies.md#the-right-word-falls-too)")


def _warn(text: str) -> None:
    warnings.warn(text, BornGapWarning, stacklevel=3)
