"""The results of a reproduction in its folder: written from the runs, read by whoever shows them.

``claims.json`` holds the claims, ``tables/`` each table as Markdown, JSON and CSV, ``figures/*.json`` the data of the
figures. ``results.json``, written last, says which there are, in their order, and what they rest on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from borngap.errors import UserError
from borngap.files import checked, json_bytes, write_whole
from borngap.folder import FolderKind, read_head
from borngap.results import figures, tables
from borngap.results.claims import JudgedClaim
from borngap.results.figures import Figure
from borngap.results.tables import Table

REPRODUCTION = FolderKind("reproduction", "reproduce.json")
RESULTS_FILE, CLAIMS_FILE = "results.json", "claims.json"
TABLES, FIGURES = "tables", "figures"


@dataclass(frozen=True)
class Results:
    """What a reproduction has found.

    Attributes:
        claims: the claims, judged.
        tables: in their order.
        figures: in their order.
        runs: how many runs they rest on.
        contexts: how many contexts were measured, of those that the plan offers.
        undone: what of the plan is not stored yet, in words.
    """

    claims: Sequence[JudgedClaim]
    tables: Sequence[Table]
    figures: Sequence[Figure]
    runs: int
    contexts: int
    undone: Sequence[str]


@dataclass(frozen=True)
class About:
    """What a reproduction says of itself.

    Attributes:
        models: names of the models.
        arms: ways of training.
        steps: optimiser steps a run.
        environment: versions and machine that it was started on.
    """

    models: Sequence[str]
    arms: Sequence[str]
    steps: int
    environment: Mapping[str, Any]


def write_results(folder: Path, found: Results) -> None:
    """Write results; what stood there is replaced.

    Args:
        folder: the reproduction.
        found: the results.
    """
    for table in found.tables:
        tables.write_table(table, folder / TABLES)
    for figure in found.figures:
        write_whole(folder / FIGURES / f"{figure.id}.json", json_bytes(figures.figure_json(figure)))
    write_whole(
        folder / CLAIMS_FILE, json_bytes({"schema": 1, "undone": list(found.undone), "claims": list(found.claims)})
    )
    head = {"schema": 1, "runs": found.runs, "contexts": found.contexts, "undone": list(found.undone)}
    there = {"tables": [tables.layout(table) for table in found.tables], "figures": [f.id for f in found.figures]}
    write_whole(folder / RESULTS_FILE, json_bytes(head | there))


def read_results(folder: Path) -> Results:
    """Read results back.

    Args:
        folder: the reproduction.

    Returns:
        The results.

    Raises:
        UserError: there are none, or a file is damaged.
    """
    if not (folder / RESULTS_FILE).is_file():
        fix = "give the same `borngap reproduce` command again: what has been run is kept"
        raise UserError(f"{folder} holds no results", rule=f"a reproduction with {RESULTS_FILE}", fix=fix)
    head = checked(folder / RESULTS_FILE)
    try:
        return Results(
            checked(folder / CLAIMS_FILE)["claims"],
            [tables.table_of(checked(folder / TABLES / f"{each['id']}.json"), each) for each in head["tables"]],
            [figures.stored_figure(checked(folder / FIGURES / f"{name}.json")) for name in head["figures"]],
            head["runs"],
            head["contexts"],
            head["undone"],
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        fix = "give the same `borngap reproduce` command again: results are made again from the stored runs"
        raise UserError(f"the results in {folder} are damaged", found=repr(error), fix=fix) from None


def read_about(folder: Path) -> About:
    """Read what a reproduction is of.

    Args:
        folder: the reproduction.

    Returns:
        What its plan says, as far as it is shown.
    """
    head = read_head(folder, REPRODUCTION)
    plan = head["plan"]
    return About(plan["models"], plan["arms"], plan["steps"], head["environment"])
