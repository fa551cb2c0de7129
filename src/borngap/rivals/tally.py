"""What a loss on rivals did since it was last asked: sums that stay on the device until then."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_LOGGED = "rival_loss"
_SHARES = {
    "targets": ("targets", "batches"), "share": ("added", "loss"), "success": ("ahead", "targets"),
    "over_use": ("over_used", "others"),
}  # fmt: skip
_SUMS = ("batches", "targets", "ahead", "added", "loss", "others", "over_used")


@dataclass(frozen=True, eq=False)
class SpotsSeen:
    """One batch.

    Attributes:
        gaps: logit gaps of right token and strongest rival at the targets acted on, unit nat, shape (n,).
        others: logit gaps of the word to use and the one to avoid where the latter stands, unit nat, shape (m,).
        added: what the rivals added to the batch's loss.
        loss: the batch's loss, that included.
    """

    gaps: Tensor
    others: Tensor
    added: Tensor
    loss: Tensor


class Tally:
    """Sums over batches."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._sums: Tensor | None = None

    def add(self, seen: SpotsSeen) -> None:
        """Take a batch in."""
        ahead, over = ((gaps > 0).sum() for gaps in (seen.gaps, seen.others))
        counts = (1, len(seen.gaps), ahead, seen.added, seen.loss, len(seen.others), over)
        sums = torch.stack([torch.as_tensor(x, device=seen.gaps.device).detach().float() for x in counts])
        self._sums = sums if self._sums is None else self._sums + sums

    def read(self) -> dict[str, float]:
        """Return the numbers and begin anew.

        Returns:
            ``targets`` acted on a batch; ``share`` of the loss that the rivals added; ``success``, the share of these
            targets at which the right word leads; ``over_use``, of targets where a word to avoid stands the share at
            which the one to use leads; each under ``rival_loss/``, and missing where there is nothing to tell.
        """
        if self._sums is None:
            return {}
        sums, self._sums = dict(zip(_SUMS, self._sums.tolist(), strict=True)), None
        return {f"{_LOGGED}/{name}": sums[part] / sums[whole] for name, (part, whole) in _SHARES.items() if sums[whole]}
