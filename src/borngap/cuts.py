"""The paper's cuts: the numbers at which one finding ends and the next begins.

Each is a cut through a continuum; those of the jump ratio are our fit to its tables 2 and 3
(docs/track.md#how-verdicts-are-made). Whoever judges by a cut takes it from here.
"""

from __future__ import annotations

# the largest change of the Born gap between two records over the mean change (jump ratio), unit 1: from here on ...
CATAPULT = 15.0
CATAPULT_LIKE = 8.0
INTERMEDIATE = 6.0
JUMP = 5.0  # ... it is a jump at all; below, a drift

# a jump of the readout alone: share of it that is left with the geometry of step 0, unit 1
PHANTOM_SHARES = (0.9, 1.1)

DRAG_TOLERANCE = 0.005  # the background moved towards the rival if the drag fell by more, unit 1

# a failure that the loss does not show: it fell by as much in all, and never rose by more between records, unit nat
SILENT_FALL = 0.01
SILENT_RISE = 1e-3

# crowding d * mean(G^2) of an embedding matrix, unit 1: class A (dense) from the first, B (sparse) up to the second
DENSE_CROWDING = 6.0
SPARSE_CROWDING = 4.0
