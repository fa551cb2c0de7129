"""The tables and the pictures of docs/remedies-measured.md from the stored runs of remedies.py.

    python benchmarks/remedy_table.py FOLDER SEEDS             # records docs/remedies/*.json, and their tables
    python benchmarks/remedy_table.py                          # the tables again, from the records
    python benchmarks/remedy_table.py --pictures docs/images   # the pictures, from the records of seed 0

Of the seeds named (0,1,2), of remedies that have been run with each. Success: the wanted word leads where it stands, in
its base form, which was trained. Carried over: the same where it stands in another form, which nothing trained.
Over-use: it leads where the other word is right. Tells apart: the chance that the wanted word's lead is larger at a
place where it stands than at one where the other word is right (1/2: it can't tell; no bias changes it). Loss: of a
held-out token, less cross-entropy's. log p: median change of the wanted word's, against cross-entropy's run. Bias:
success of cross-entropy's run with the constant logit bias that gives the same over-use, and what that bias adds to the
loss; in the pictures a line. Brackets: 95 % intervals over rows, places of all seeds of a row together; of differences
paired.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from borngap.files import write_whole
from borngap.report.charts.drawing import picture
from borngap.resample import percentile_interval
from borngap.results.figures import Figure
from remedies import BIASES

CE, BASE = "none", "base"
GAP, GOLD = 0, 1  # columns of a place
RECORDS = Path(__file__).parents[1] / "docs" / "remedies"
HEADINGS = (
    "remedy", "success", "carried over", "over-use", "tells apart", "loss", "log p", "bias at this over-use",
)  # fmt: skip
_RESAMPLES = 400
_DEAR = 0.4  # nat; what costs more is left out of the pictures, which it would squeeze
_BIAS, _OTHERS = "a logit bias on cross-entropy alone", "other"
_FAMILIES = {
    "no training": (BASE,), "cross-entropy alone": (CE,), "margin, logistic": ("margin", "logistic"),
    "weight": ("weight",), "LoRA with the head": ("head",), "up-sampled": ("upsample",),
    "preferences after it": ("dpo", "orpo", "simpo"),
}  # fmt: skip
_OVER_USE, _LOSS = "over-use, share of places", "held-out loss added, nat a token"
_REAL = "smollm2"  # part of a run's name: such runs have a picture of their own, with what they cost in loss
_NAMES = {
    BASE: "no training", CE: "cross-entropy alone", "dft": "DFT", "smooth": "label smoothing", "gmax": "Gmax penalty",
    "decorrelate": "decorrelation",
    "upsample": "up-sampling, times", "rate": "rate, times", "dpo": "DPO after it, beta", "orpo": "ORPO after it, beta",
    "simpo": "SimPO after it, beta",
}  # fmt: skip
_LEFT_OUT = {"docs-llama": ("log p",), "-domain-": ("log p",), "-chat-": ("log p",)}  # part of a name -> columns
Statistic = Callable[[Any], float]


@dataclass(frozen=True)
class Stored:
    """The runs of one model and corpus.

    Attributes:
        name: of the folder.
        row: row of each place.
        groups: base, inflected or right -> which places.
        runs: remedy -> seed -> places, float (n, 4), and rows, float (m, columns).
    """

    name: str
    row: Any
    groups: dict[str, Any]
    runs: dict[str, dict[int, tuple[Any, Any]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="of remedies.py; without it the tables of the records")
    parser.add_argument("seeds", nargs="?", default="0")
    parser.add_argument("--pictures", type=Path, help="folder for the pictures")
    options = parser.parse_args()
    if options.folder is not None:
        written = list(recorded(options.folder, [int(seed) for seed in options.seeds.split(",")]))
        print(f"\n{len(written)} records written to {RECORDS}")
    elif options.pictures is None:
        for name, table in (tables(RECORDS) | pilot_tables(RECORDS / "pilots")).items():
            print(f"\n{name}\n\n{table}", end="")
    if options.pictures is not None:
        for figure in figures(RECORDS):
            print(picture(figure).save(options.pictures / f"{figure.id}.svg"))


def recorded(root: Path, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the record of each model and corpus that has cross-entropy's runs of the seeds; write it to RECORDS."""
    for folder in sorted(f for f in root.iterdir() if (f / "places.json").exists()):
        one = stored(folder, seeds)
        if CE in one.runs:
            record = {
                "schema": 1, "run": one.name, "seeds": list(seeds), "rows": int(one.row.max() + 1),
                "places": {name: int(where.sum()) for name, where in one.groups.items()},
                "remedies": [rounded(measured(one, remedy)) for remedy in ordered(one.runs)],
            }  # fmt: skip
            name = f"{one.name}-{'-'.join(map(str, seeds))}"
            write_whole(RECORDS / f"{name}.json", (json.dumps(record, indent=1) + "\n").encode())
            print(f"\n{name}\n\n{markdown(record, HEADINGS)}", end="", flush=True)
            yield record


def rounded(value: Any) -> Any:
    """Numbers to seven digits behind the point."""
    if isinstance(value, dict):
        return {key: rounded(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(own) for own in value]
    return round(value, 7) if isinstance(value, float) else value


def tables(folder: Path) -> dict[str, str]:
    """The tables of the page, by the name of their record; of several seeds' remedies one seed is not shown again."""
    records = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))}
    several = {record["run"]: {e["remedy"] for e in record["remedies"]} for record in records.values()
               if len(record["seeds"]) > 1}  # fmt: skip
    found = {}
    for name, record in records.items():
        done = several.get(record["run"], set()) - {CE} if len(record["seeds"]) == 1 else set()
        left_out = {"carried over"} if done else set()
        for part, columns in _LEFT_OUT.items():
            left_out |= set(columns) if part in name else set()
        kept = [entry for entry in record["remedies"] if entry["remedy"] not in done]
        if {entry["remedy"] for entry in kept} > {CE}:
            found[name] = markdown(record | {"remedies": kept}, [h for h in HEADINGS if h not in left_out])
    return found


def pilot_tables(folder: Path) -> dict[str, str]:
    """The tables of pilots held against runs, from the records of remedy_pilots.py, by their name."""
    return {file.stem: pilot_table(json.loads(file.read_text())) for file in sorted(folder.glob("*.json"))}


def pilot_table(record: dict[str, Any]) -> str:
    headings = ("corpus", "remedy", "success, pilot", "run", "over-use, pilot", "run", "loss, pilot", "run")
    lines = [f"| {' | '.join(headings)} |", f"|{' --- |' * len(headings)}"]
    for held in record["held"]:
        corpus = held["run"].split("-")[-2]
        for e in held["remedies"]:
            pilot, run, name = e["pilot"], e["run"], e["remedy"].removesuffix(",2")
            loss = "" if pilot["loss"] is None else "{} ({} to {})".format(*map(signed, pilot["loss"]))
            told = [percent(pilot["success"]), f"{100 * run['success']:.0f} %", percent(pilot["over_use"])]
            told += [f"{100 * run['over_use']:.0f} %", loss, "" if name == CE else signed(run["loss"])]
            lines.append(f"| {' | '.join((corpus, shown(name), *told))} |")
    return "\n".join(lines) + "\n"


def markdown(record: dict[str, Any], headings: Sequence[str]) -> str:
    lines = [f"| {' | '.join(headings)} |", f"|{' --- |' * len(headings)}"]
    for entry in record["remedies"]:
        told = cells(entry)
        lines.append(f"| {' | '.join(told[heading] for heading in headings)} |")
    return "\n".join(lines) + "\n"


def stored(folder: Path, seeds: Sequence[int]) -> Stored:
    places = json.loads((folder / "places.json").read_text())
    kind, form = np.array(places["kind"]), np.array(places["form"])
    groups = {
        "base": (kind == "due") & (form == "base"), "inflected": (kind == "due") & (form != "base"),
        "right": kind == "right",
    }  # fmt: skip
    runs: dict[str, dict[int, tuple[Any, Any]]] = defaultdict(dict)
    for file in sorted(folder.glob("*-*.json")):
        entry = json.loads(file.read_text())
        runs[entry["remedy"]][entry["seed"]] = np.array(entry["places"], float), np.array(entry["rows"], float)
    kept = {
        remedy: own if remedy == BASE else {seed: own[seed] for seed in seeds}
        for remedy, own in runs.items()
        if remedy == BASE or set(seeds) <= set(own)
    }
    return Stored(folder.name, np.array(places["row"]), groups, kept)


def ordered(runs: dict[str, Any]) -> list[str]:
    """Without training, cross-entropy, then the others by name and weight."""

    def key(remedy: str) -> Any:
        kind, _, weight = remedy.partition(":")
        return (remedy != BASE, remedy != CE, kind, float(weight or 0))

    return sorted(runs, key=key)


def measured(one: Stored, remedy: str) -> dict[str, Any]:
    """All numbers of a remedy, each with an interval where it has one."""
    seeds = one.runs[remedy]
    paired = [s for s in one.runs[CE] if s in seeds]
    entry: dict[str, Any] = {"remedy": remedy, "seeds": len(seeds)}
    for name, group, sign in (("success", "base", 1), ("carried", "inflected", 1), ("over_use", "right", -1)):
        entry[name] = share(one, [sign * seeds[s][0][:, GAP] > 0 for s in seeds], group)
    entry["apart"] = apart(one, remedy)
    entry["loss"] = loss_change(one, remedy, paired) if paired and remedy != CE else None
    base = one.groups["base"]
    falls = [seeds[s][0][base, GOLD] - one.runs[CE][s][0][base, GOLD] for s in paired]
    entry["log_p"] = float(np.median(falls)) if falls and remedy != CE else None
    entry["bias"] = biased(one, paired, entry["over_use"][0]) if paired and remedy != CE else None
    return entry


def share(one: Stored, hits: Sequence[Any], group: str) -> tuple[float, float | None, float | None]:
    """Share of the places of a group, over all seeds, with its interval over rows."""
    where = one.groups[group]
    rows, at = np.unique(one.row[where], return_inverse=True)
    each = np.zeros((len(rows), 2))
    for hit in hits:
        np.add.at(each, at, np.stack([hit[where], np.ones(where.sum())], 1))
    return interval(lambda drawn: each[drawn, 0].sum() / each[drawn, 1].sum(), len(rows))


def apart(one: Stored, remedy: str) -> tuple[float, float | None, float | None]:
    """The chance that the wanted word leads by more where it stands than where the other is right."""
    due, right = one.groups["base"], one.groups["right"]
    runs = [places[:, GAP] for places, _ in one.runs[remedy].values()]
    more = np.mean([(gaps[due][:, None] > -gaps[right][None]) for gaps in runs], 0)
    rows, at = np.unique(one.row, return_inverse=True)

    def statistic(drawn: Any) -> float:
        weights = np.bincount(drawn, minlength=len(rows))[at].astype(float)
        mine, theirs = weights[due], weights[right]
        return float(mine @ more @ theirs / (mine.sum() * theirs.sum()))

    return interval(statistic, len(rows))


def loss_change(one: Stored, remedy: str, seeds: Sequence[int]) -> tuple[float, float | None, float | None]:
    """Loss of a held-out token less that of cross-entropy's run of the same seed."""
    tokens = one.runs[CE][seeds[0]][1][:, 0]
    more = np.mean([one.runs[remedy][s][1][:, 1] - one.runs[CE][s][1][:, 1] for s in seeds], 0)
    return interval(lambda drawn: more[drawn].sum() / tokens[drawn].sum(), len(tokens))


def interval(statistic: Statistic, count: int) -> tuple[float, float | None, float | None]:
    return (statistic(np.arange(count)), *percentile_interval(statistic, count, resamples=_RESAMPLES))


def biased(one: Stored, seeds: Sequence[int], over_use: float) -> tuple[float, float, float | None]:
    """The bias at which cross-entropy's runs reach an over-use, success with it, and what it adds to the loss."""
    gaps = np.concatenate([one.runs[CE][s][0][:, GAP] for s in seeds])
    due, right = (np.tile(one.groups[name], len(seeds)) for name in ("base", "right"))
    bias = float(np.quantile(gaps[right], over_use))
    columns = sum(one.runs[CE][s][1].sum(0) for s in seeds)
    costs = [0.0, *(columns[2 + len(BIASES) :] - columns[1]) / columns[0]]
    cost = float(np.interp(bias, [0.0, *BIASES], costs)) if 0 <= bias <= BIASES[-1] else None
    return bias, float((gaps[due] + bias > 0).mean()), cost


def cells(e: dict[str, Any]) -> dict[str, str]:
    """Heading -> cell of a remedy."""
    loss = "" if e["loss"] is None else "{} ({} to {})".format(*map(signed, e["loss"]))
    bias = "" if e["bias"] is None else f"{100 * e['bias'][1]:.0f} % at {e['bias'][0]:+.1f} nat{added(e['bias'][2])}"
    return {
        "remedy": shown(e["remedy"]), "success": percent(e["success"]), "carried over": percent(e["carried"]),
        "over-use": percent(e["over_use"]), "tells apart": "{:.2f} ({:.2f} to {:.2f})".format(*e["apart"]),
        "loss": loss, "log p": "" if e["log_p"] is None else f"{e['log_p']:+.2f}", "bias at this over-use": bias,
    }  # fmt: skip


def shown(remedy: str) -> str:
    """A remedy as the page calls it."""
    if remedy.startswith("head"):
        return "LoRA with the head" + (f", {shown(remedy.removeprefix('head+'))}" if "+" in remedy else "")
    if remedy.startswith("both+"):
        return f"{shown(remedy.removeprefix('both+'))}, both ways"
    kind, _, number = remedy.partition(":")
    return f"{_NAMES.get(kind, kind)} {number}".strip()


def added(cost: float | None) -> str:
    return "" if cost is None else f", loss {signed(cost)}"


def signed(value: float) -> str:
    text = f"{value:+.3f}"
    return text if float(text) else "0.000"


def percent(value: Sequence[float | None]) -> str:
    between = "" if value[1] is None else f" ({100 * value[1]:.0f} % to {100 * value[2]:.0f} %)"
    return f"{100 * value[0]:.0f} %{between}"


def figures(folder: Path) -> list[Figure]:
    """The pictures: of the miniatures, and of the real model."""
    every = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    records = [record for record in every if record["seeds"] == [0]]
    small, real = ([r for r in records if (_REAL in r["run"]) == is_real] for is_real in (False, True))
    return [
        pareto("remedies", "two miniatures", [point for r in small for point in points_of(r, {_OVER_USE: "over_use"})]),
        pareto("remedies-smollm2", "SmolLM2-135M", [
            point | {"panel": f"{point['panel'].rpartition(', ')[2]}: {name}"}
            for name, column in ((_OVER_USE, "over_use"), (_LOSS, "loss"))
            for r in real for point in points_of(r, {name: column})
        ], columns=len(real), free=("x",)),
    ]  # fmt: skip


def points_of(record: dict[str, Any], price: dict[str, str]) -> list[dict[str, Any]]:
    """A point a remedy, and one a bias that has its over-use: success against over-use or loss."""
    (column,) = price.values()
    panel = ", ".join(re.fullmatch(r"(.+)-(full|lora)-.+-(\w+)-\d+", record["run"]).groups())
    rows = []
    for e in record["remedies"]:
        kind, loss = e["remedy"].partition(":")[0], 0.0 if e["remedy"] == CE else e["loss"] and e["loss"][0]
        if loss is None or (loss >= _DEAR and (e["remedy"] != BASE or column == "loss")):
            continue
        family = next((words for words, kinds in _FAMILIES.items() if kind.partition("+")[0] in kinds), _OTHERS)
        cost = {"over_use": e["over_use"][0], "loss": loss}[column]
        rows.append({"panel": panel, "price": cost, "success": e["success"][0], "family": family})
        bias = (0.0, e["success"][0], 0.0) if e["remedy"] == CE else e["bias"]
        if bias[2] is not None or column != "loss":
            beside = {"over_use": e["over_use"][0], "loss": bias[2]}[column]
            rows.append({"panel": panel, "price": beside, "success": bias[1], "family": _BIAS})
    return rows


def pareto(name: str, of: str, rows: list[dict[str, Any]], columns: int = 3, free: tuple[str, ...] = ()) -> Figure:
    order = [_BIAS, *_FAMILIES, _OTHERS]
    first = list(dict.fromkeys(row["panel"] for row in rows))
    return Figure(
        name, f"What each remedy gains and what it costs: {of}", "Up is better, left is cheaper.", "point",
        ("price", "" if free else _OVER_USE), ("success", "wanted word leads, share of places"),
        sorted(rows, key=lambda row: (order.index(row["family"]), first.index(row["panel"]))),
        colour="family", facet="panel", free=free, columns=columns, joined=(_BIAS,),
    )  # fmt: skip


if __name__ == "__main__":
    main()
