"""The engine ``ray``: chunks of a scan by Ray Data on a cluster, by default one on this machine."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import islice
from typing import Any

import polars as pl

from borngap.data.rows import Row
from borngap.data.source import source_of
from borngap.errors import UserError
from borngap.files import parquet_bytes
from borngap.model.load import load
from borngap.ray import connected
from borngap.scanning.positions import Chunk
from borngap.scanning.scan import Job, job_of, total_rows
from borngap.scanning.settings import Scanning

_BLOCKS_PER_WORKER = 64


@dataclass(frozen=True)
class RayEngine:
    """Scans chunks on a Ray cluster, each worker with a model of its own; chunks come in the order they finish.

    Attributes:
        model: name of the model, which every worker loads.
        data: path or name of the data, which every worker reads: on a cluster, on storage that all nodes share.
        split: which split of a hub data set.
        device: torch device of the workers.
        dtype: of the weights, as ``load`` takes it.
        workers: models at work at once.
        address: a running cluster; without, one is started here and ended afterwards.
    """

    model: str
    data: str
    split: str = "train"
    device: str = "cpu"
    dtype: str | None = None
    workers: int = 1
    address: str | None = None

    def __call__(self, job: Job, done: frozenset[int]) -> Iterator[tuple[int, Chunk]]:
        """Scan the chunks that are not done.

        Args:
            job: the job.
            done: indices of chunks that are safely written.

        Yields:
            Index and chunk.

        Raises:
            UserError: Ray is not installed or reachable, the number of rows is unknown, or a worker met bad input.
        """
        total = total_rows(job)
        if total is None:
            raise UserError("the number of rows is unknown", rule="--engine ray needs it", fix="give --limit")
        chunks = [index for index in range(-(-total // job.settings.chunk)) if index not in done]
        if not chunks:
            return
        # one more processor for Ray Data's own tasks
        with connected(self.workers + 1, self.address, instead="--engine process", parts=("ray.data",)) as ray:
            try:
                yield from self._answers(ray, chunks, json.dumps(asdict(job.settings)))
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise error.cause from None
                raise

    def _answers(self, ray: Any, chunks: list[int], settings: str) -> Iterator[tuple[int, Chunk]]:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.print_on_execution_start = False, False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        blocks = min(len(chunks), _BLOCKS_PER_WORKER * self.workers)
        found = ray.data.from_items([{"chunk": index} for index in chunks], override_num_blocks=blocks).map_batches(
            _bound(self, settings), batch_size=1, batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=self.workers), num_cpus=1,
            num_gpus=1 if self.device.startswith("cuda") else 0,
        )  # fmt: skip
        for row in found.iter_rows():
            head = json.loads(row["counts"])
            if head["error"] is not None:
                raise UserError(head["error"]["what"], found=head["error"]["found"], fix=head["error"]["fix"])
            malformed = [tuple(entry) for entry in head["malformed"]]
            yield int(row["chunk"]), Chunk(pl.read_parquet(BytesIO(row["positions"])), head["counts"], malformed)


class _Worker:
    """One model of a cluster."""

    def __init__(self, engine: RayEngine, settings: str) -> None:
        import torch

        torch.set_num_threads(1)
        values = json.loads(settings)
        values["pairs"] = None if values["pairs"] is None else tuple(tuple(pair) for pair in values["pairs"])
        values["relations"] = None if values["relations"] is None else tuple(values["relations"])
        source = source_of(engine.data, engine.split)
        self._job = job_of(load(engine.model, engine.device, engine.dtype), source, Scanning(**values))
        self._rows: Iterator[Row] = iter(())
        self._next: int | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        (index,) = batch["chunk"].tolist()
        error, chunk = None, Chunk(pl.DataFrame(), {})
        try:
            _, chunk = self._job.chunk(index, self._chunk_rows(index))
        except UserError as raised:  # an error of its own class would not survive the way back
            error = {"what": raised.what, "found": raised.found, "fix": raised.fix}
        head = json.dumps({"counts": chunk.counts, "malformed": chunk.malformed, "error": error})
        return {"chunk": [index], "positions": [parquet_bytes(chunk.positions)], "counts": [head]}

    def _chunk_rows(self, index: int) -> list[Row]:
        """The rows of a chunk; chunks mostly come in order, so the reader goes on where it was."""
        size, limit = self._job.settings.chunk, self._job.settings.limit
        if self._next is None or index < self._next:
            self._rows, self._next = self._job.source.rows(index * size, limit), index
        skipped = (index - self._next) * size
        rows = islice(self._rows, skipped, skipped + size)
        self._next = index + 1
        return list(rows)


def _bound(engine: RayEngine, settings: str) -> type:
    """A worker that knows its job: Ray warns of constructor arguments, which an actor's restart may miss."""

    class Bound(_Worker):
        def __init__(self) -> None:
            super().__init__(engine, settings)

    return Bound
