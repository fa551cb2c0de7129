"""``borngap scan``: which targets of a data set have a near-synonym rival in front?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from borngap.cli.arguments import Json, ModelPlace, RayAddress
from borngap.cli.options import Takes
from borngap.cli.progress import Progress
from borngap.cli.show import fitted_table, model_line, print_json, print_table, say, say_notes, short_number
from borngap.report.text import word
from borngap.scanning.settings import Order, Scanning
from borngap.shown import visible

if TYPE_CHECKING:
    from borngap.cli.tables import Fitted
    from borngap.model.load import Loaded
    from borngap.scanning.ray import RayEngine
    from borngap.scanning.scan import ScanProgress as Scanned

PAGE_FILE = "report.html"
_CHOSEN = {
    "median": "each pair's next to its median logit gap",
    "worst": "each pair's worst",
    "spread": "each pair's median, worst and mildest in turn",
}
_CLASSES = {"A": "dense", "B": "sparse", "intermediate": "intermediate"}


def scan(
    data: Annotated[
        str,
        typer.Argument(help="File (JSON Lines, JSON, CSV, TSV, Parquet, text; also compressed), folder, or hub name."),
    ],
    *,
    source: ModelPlace,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; an unfinished scan there goes on.")] = None,
    scanning: Annotated[Scanning, Takes(without=("pairs", "terms"))],
    pairs: Annotated[Path | None, typer.Option(help="File of pairs, gold and rival: look for these only.")] = None,
    terms: Annotated[
        Path | None, typer.Option("--terms", "-t", help="Terms of a house style, as `terms` reads them: given pairs.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Language of TBX with several, such as `en`.")] = None,
    split: Annotated[str, typer.Option(help="Split of a hub data set, or key of a JSON object's rows.")] = "train",
    show: Annotated[int, typer.Option(help="Pairs to print.")] = 10,
    export_contexts: Annotated[
        int, typer.Option(help="Contexts for finetune and forecast, one of each of the worst pairs; needs --out.")
    ] = 0,
    export_by: Annotated[
        Order, typer.Option(help="A pair's targets by logit gap: next to the median, the worst, or a spread.")
    ] = "median",
    fail_over: Annotated[
        float | None,
        typer.Option(help="Exit with 1 if a rival that counts leads in more than this share of its targets."),
    ] = None,
    engine: Annotated[
        Literal["process", "ray"], typer.Option(help="`ray` runs on a Ray cluster (extra `ray`).")
    ] = "process",
    workers: Annotated[int, typer.Option(help="Models at work at once, with --engine ray.")] = 1,
    ray_address: RayAddress = None,
    json: Json = False,
) -> None:
    """Scan a data set: how many targets have a near-synonym rival in the nucleus, who leads, and which pairs."""
    from borngap.errors import UserError
    from borngap.scanning.pairs import read_pairs
    from borngap.scanning.scan import scan as run
    from borngap.words.termfile import read_terms

    if fail_over is not None and not 0 <= fail_over <= 1:
        raise UserError("fail-over is out of range", rule="a share in [0, 1]", found=fail_over)
    settings = replace(
        scanning, pairs=None if pairs is None else read_pairs(pairs),
        terms=None if terms is None else read_terms(terms, language).pairs,
    )  # fmt: skip
    loaded = source.load()
    runner = _runner(loaded, data, split, source.device, workers, ray_address) if engine == "ray" else None
    with Progress("rows") as bar:
        found = run(
            loaded.model, loaded.tokenizer, data, out=out, settings=settings, export_contexts=export_contexts,
            export_by=export_by, split=split, name=source.model, engine=runner, on_progress=_seen(bar),
        )  # fmt: skip
    if fail_over is not None:
        _check_whole(found.summary)
    page = None if out is None else _page(out)
    if json:
        print_json(found.summary)
    else:
        _report(found.summary, found.pairs.head(show).to_dicts(), out)
        if page is not None:
            say(f"page: {page}")
    if fail_over is not None:
        _fail_over(found.summary["headline"], fail_over)


def _fail_over(headline: dict[str, Any], limit: float) -> None:
    """Exit with 1 if rivals of the relations that count lead too often."""
    share = headline["share_ahead"]
    if share is not None and share > limit:
        kinds = " or ".join(headline["relations"])
        told = f"the rival leads in {share:.4f} of the targets that have one ({kinds}), over {limit:g}"
        typer.echo(told, err=True)
        raise typer.Exit(1)


def _check_whole(summary: dict[str, Any]) -> None:
    """Refuse to judge data of which a part was not read."""
    from borngap.errors import UserError

    counts = summary["counts"]
    if counts["malformed"]:
        first = "; ".join(f"{row['where']}: {row['reason']}" for row in summary["malformed"][:3])
        what = f"{counts['malformed']} of {counts['rows']} rows were not read"
        fix = "mend these rows or take them out"
        raise UserError(what, rule="--fail-over judges data that was read whole", found=first, fix=fix)


def _page(folder: Path) -> Path:
    """Write the report of a scan into its folder; of equal folders and versions the bytes are equal."""
    from borngap.report.report import report_of

    return report_of(folder).save(folder / PAGE_FILE)


def _runner(loaded: Loaded, data: str, split: str, device: str, workers: int, address: str | None) -> RayEngine:
    from borngap.model.precision import precision_of
    from borngap.ray import WARNING
    from borngap.scanning.ray import RayEngine

    if address is None:
        typer.echo(f"warning: {WARNING}", err=True)
    dtype = precision_of(loaded.model)["dtype"]  # every worker takes the same, however much of its memory is free
    return RayEngine(loaded.name, data, split, device, dtype, workers, address)


def _seen(bar: Progress) -> Callable[[Scanned], None]:
    """Return what shows how far a scan is: rows, targets a second, time left."""

    def see(state: Scanned) -> None:
        rate = state.fresh_targets / state.seconds if state.seconds else 0.0
        bar.show(state.rows, state.total, seen=f"{state.targets} targets, {rate:.0f} a second")

    return see


def _report(summary: dict[str, Any], pairs: list[dict[str, Any]], folder: Path | None) -> None:
    from borngap.report.scanwording import nucleus_sentence, rule_sentence, scan_sentence

    say(model_line(summary["model"]))
    say_notes(summary["model"]["notes"])
    for line in (*_data_lines(summary), _bulk_line(summary), rule_sentence(summary)):
        say(line)
    say(f"\n{scan_sentence(summary)}\n{nucleus_sentence(summary)}")
    say_notes(summary["notes"])
    if summary["relations"]:
        print_table(_relations_table(summary))
    if pairs:
        say(f"\npairs, worst first ({len(pairs)} of {summary['pairs']})")
    for pair in pairs:
        for line in _pair_lines(pair):
            say(line)
    if folder is not None:
        say(f"\nwritten to {folder}{_contexts(summary)}")


def _data_lines(summary: dict[str, Any]) -> list[str]:
    counts = summary["counts"]
    lines = [
        f"{summary['data']}: {summary['layout']}; {counts['rows']} rows, {counts['tokens']} tokens",
        f"supervised: {summary['supervised']}",
    ]
    if counts["split"]:
        size, shared = summary["window"], summary["shared_tokens"]
        lines.append(
            f"{counts['split']} rows longer than {size} tokens were split; their windows share {shared} tokens"
        )
    if counts["unsupervised"]:
        lines.append(f"{counts['unsupervised']} rows have no supervised target")
    if counts["malformed"]:
        first = "; ".join(f"{row['where']}: {row['reason']}" for row in summary["malformed"][:3])
        lines.append(f"{counts['malformed']} malformed rows left out: {visible(first)}")
    if others := summary["files_left_out"]:
        named = visible(", ".join(others[:3])) + ", ..."[: 5 * (len(others) > 3)]
        lines.append(f"{len(others)} file{'s'[: len(others) != 1]} of other kinds left out: {named}")
    return lines


def _bulk_line(summary: dict[str, Any]) -> str:
    bulk = summary["bulk"]
    return (
        f"{summary['geometry']} geometry: crowding {short_number(bulk['crowding'], 3)} ({_CLASSES[bulk['class']]}), "
        f"mean overlap {short_number(bulk['mean'], 3)}"
    )


def _relations_table(summary: dict[str, Any]) -> Fitted:
    counted = summary["headline"]["relations"]
    rows = sorted(summary["relations"], key=lambda row: row["relation"] not in counted)
    cells = [[row["relation"], row["targets"], row["rival_ahead"]] for row in rows]
    return fitted_table("\nRivals by their relation to gold", ["relation", "in the nucleus", "ahead"], cells)


def _pair_lines(pair: dict[str, Any]) -> list[str]:
    gold, rival = (word(pair[name]) for name in ("gold", "rival"))
    head = (
        f"{gold} < {rival} ({pair['relation']}): {pair['targets']} target{'s'[: pair['targets'] != 1]}, rival ahead in "
        f"{pair['rival_ahead']}, overlap {pair['gold_overlap']:.2f}, "
        f"median logit gap {pair['median_logit_gap']:+.1f} nat"
    )
    examples = (
        f"    ...{visible(' '.join(place['before'].split()))} [{gold}]  {place['logit_gap']:+.2f} nat; {place['where']}"
        for place in pair["examples"]
    )
    return [head, *examples]


def _contexts(summary: dict[str, Any]) -> str:
    contexts = summary["contexts"]
    if contexts is None:
        return ""
    if not contexts["written"]:
        return "; no contexts: the rival is ahead nowhere"
    ids = f", {contexts['with_ids']} with token ids, since their text gives others" if contexts["with_ids"] else ""
    number_of = f"{contexts['written']} context{'s'[: contexts['written'] != 1]}"
    return f"; {number_of} in {contexts['file']}, {_CHOSEN[contexts['by']]}{ids}"
