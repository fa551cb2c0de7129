"""``borngap terms``: does a model use the words of a house style, and does its data?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from borngap.cli.arguments import Json, ModelPlace
from borngap.cli.progress import Progress
from borngap.cli.show import fitted_table, model_line, print_json, print_table, say, say_notes
from borngap.report.text import MISSING, count
from borngap.scanning.settings import Order
from borngap.shown import visible
from borngap.usage.asking import Asking, Which
from borngap.usage.exports.remedyfiles import RemedyFiles

if TYPE_CHECKING:
    from borngap.usage.terms import UsageProgress

_BEFORE, _AFTER = 60, 20  # characters of a text that are shown
_TERMS = 40  # rows of the table
_NONE = {
    "behind": "the word to avoid leads at no due place",
    "due": "no due place is measured",
    "over-used": "the wanted word leads nowhere where the other is marked as right",
}
_REMEDIES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "pairs": lambda e: f"{count(e['written'], 'preference pair')}{_left_out_pairs(e)}",
    "bias": lambda e: (
        f"a bias of -{e['bias']:.2f} nat on {count(e['sequences'], 'word')} to avoid (success "
        f"{_share(e['success_before'])} -> {_share(e['success'])} of {e['due']}, over-use "
        f"{_share(e['over_use_before'])} -> {_share(e['over_use'])} of {e['right_avoid']})"
    ),
    "rows": lambda e: f"{count(e['written'], 'row')}, {e['repeated']} of them several times,",
}
_NOT_ASKED = (
    "the model was not asked, which these files do not need; --out, --held-out, --fail-under, --export-contexts or "
    "--json asks it too"
)
_SPACES = re.compile(r"\s+")


def terms(
    data: Annotated[
        str,
        typer.Argument(help="Text whose compliance is judged: file (as for `scan`), folder, or hub name."),
    ],
    *,
    source: ModelPlace,
    terms: Annotated[
        Path, typer.Option("--terms", "-t", help="Words to use and to avoid: CSV, JSON Lines, a rule of Vale, TBX.")
    ],
    held_out: Annotated[
        str | None, typer.Option("--held-out", help="Text at whose places the model is asked; DATA unless given.")
    ] = None,
    allowed: Annotated[
        Path | None, typer.Option(help="Rows in which words to avoid are right: `row`, and `avoid` and `offset`.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; an unfinished result there goes on.")] = None,
    fail_under: Annotated[
        float | None, typer.Option(help="Exit with 1 if the success over all terms is below this share.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Language of TBX with several, such as `en`.")] = None,
    asking: Asking,
    split: Annotated[str, typer.Option(help="Split of a hub data set, or key of a JSON object's rows.")] = "train",
    show: Annotated[int, typer.Option(help="Worst places to print.")] = 10,
    export_contexts: Annotated[
        Path | None, typer.Option(help="File for places as contexts, for probe, forecast and finetune; a term in turn.")
    ] = None,
    export_count: Annotated[int, typer.Option(help="Contexts to export, at most.")] = 20,
    export_places: Annotated[
        Which,
        typer.Option(help="Due places whose other word leads, all due places, or right ones where yours leads."),
    ] = "behind",
    export_by: Annotated[
        Order, typer.Option(help="A term's places by logit gap: next to the median, the worst, or a spread.")
    ] = "median",
    remedies: RemedyFiles,
    json: Json = False,
) -> None:
    """Ask a model for the words of a house style: where it prefers the wrong one, over-uses yours, writes others."""
    from borngap.errors import UserError
    from borngap.usage.terms import terms as run
    from borngap.words.termfile import read_terms

    if fail_under is not None and not 0 <= fail_under <= 1:
        raise UserError("fail-under is out of range", rule="a share in [0, 1]", found=fail_under)
    if show < 0:
        raise UserError("show is out of range", rule="at least 0 places", found=show)
    wanted = read_terms(terms, language)
    reported = (out, held_out, fail_under, export_contexts)
    if remedies.wanted and not remedies.needs_model and not json and all(asked is None for asked in reported):
        _write_rows(source, data, wanted, remedies, allowed=allowed, settings=asking, split=split)
        return
    loaded = source.load()
    with Progress("rows") as bar:
        found = run(
            loaded.model, loaded.tokenizer, data, wanted, held_out=held_out, allowed=allowed, out=out, settings=asking,
            split=split, name=source.model, on_progress=_seen(bar), export_contexts=export_contexts,
            export_count=export_count, export_places=export_places, export_by=export_by,
            remedies=remedies,
        )  # fmt: skip
    if fail_under is not None:
        _check_judged(found.summary)
    if json:
        print_json(found.summary)
    else:
        _report(found.summary, show, out)
    share = found.summary["all"]["success"]
    if fail_under is not None and share < fail_under:
        typer.echo(f"the wanted word leads in {share:.4f} of its places, under {fail_under:g}", err=True)
        raise typer.Exit(1)


def _write_rows(source: ModelPlace, data: str, terms: Any, files: RemedyFiles, **options: Any) -> None:
    """Write files of rows; the model's tokenizer is enough, and takes seconds where the model takes minutes."""
    from borngap.usage.exports.rowfiles import row_files

    with Progress("rows") as bar:

        def see(rows: int, total: int | None, places: int) -> None:
            bar.show(rows, total, what="reading, rows", seen=f"{places} places")

        told = row_files(source.tokenizer(), data, terms, files, on_progress=see, **options)
    say_notes(told["notes"])
    for line in (*_text_lines(told["data"], told["read"], told["malformed"]), *_left_out(told["left_out"])):
        say(line)
    for line in _remedy_lines(told["remedies"]):
        say(line)
    say(_NOT_ASKED)


def _check_judged(summary: dict[str, Any]) -> None:
    """Refuse to judge a model by text of which a part was not read, or that never asks for a wanted word."""
    from borngap.errors import UserError

    rule = "--fail-under judges text that was read whole and has wanted words"
    if summary["malformed"]:
        first = "; ".join(f"{row['where']}: {row['reason']}" for row in summary["malformed"][:3])
        raise UserError("some rows were not read", rule=rule, found=first, fix="mend these rows or take them out")
    if summary["all"]["success"] is None:
        raise UserError("there is no success to judge", rule=rule, found=summary["all"]["notes"]["success"])


def _seen(bar: Progress) -> Callable[[UsageProgress], None]:
    """Return what shows how far it is: rows, places, time left."""

    def see(state: UsageProgress) -> None:
        bar.show(state.rows, state.total, what=f"{state.doing}, rows", seen=f"{state.places} places")

    return see


def _report(summary: dict[str, Any], show: int, folder: Path | None) -> None:
    say(model_line(summary["model"]))
    say_notes([*summary["model"]["notes"], *summary["notes"]])
    name = summary["held_out"] or summary["data"]
    for line in (*_text_lines(name, summary["asked"], summary["malformed"]), *_left_out(summary["left_out"])):
        say(line)
    _table(summary)
    for line in (*_reasons(summary), *_compliance_lines(summary)):
        say(line)
    for title, kind in (("worst places", "worst"), ("over-use", "worst_over_use")):
        places = summary[kind][:show]
        if places:
            say(f"\n{title}, worst first")
        for place in places:
            say(_place_line(place))
    if folder is not None:
        say(f"\nwritten to {folder}: every place in {summary['places_file']}")
    if "contexts" in summary:
        say(_contexts_line(summary["contexts"]))
    for line in _remedy_lines(summary.get("remedies", {})):
        say(line)


def _remedy_lines(told: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, entry in told.items():
        yield f"{_REMEDIES[name](entry)} in {entry['file']}"


def _contexts_line(told: dict[str, Any]) -> str:
    if not told["written"]:
        return f"no contexts in {told['file']}: {_NONE[told['places']]}"
    ids = f", {told['with_ids']} with token ids, since their text gives others" if told["with_ids"] else ""
    return f"{count(told['written'], 'context')} in {told['file']}{ids}"


def _left_out_pairs(told: Mapping[str, Any]) -> str:
    return f" ({told['left_out']} left out, since their text alone gives other tokens)" if told["left_out"] else ""


def _text_lines(name: str, read: Mapping[str, Any], malformed: Sequence[Mapping[str, str]]) -> Iterator[str]:
    counts = ", ".join(count(read[f"{what}s"], what) for what in ("row", "token", "place"))
    yield f"{name}: {read['layout']}; {counts} of terms"
    elsewhere = f"; {read['hidden']} words of terms stand elsewhere" if read["hidden"] else ""
    yield f"supervised: {read['supervised']}{elsewhere}"
    if malformed:
        first = "; ".join(f"{row['where']}: {row['reason']}" for row in malformed[:3])
        yield f"malformed rows left out: {visible(first)}"


def _left_out(entries: list[dict[str, str]]) -> Iterator[str]:
    if entries:
        named = "; ".join(f"{e['avoid']!r} ({e['where']}: {e['reason']})" for e in entries[:3])
        yield f"{count(len(entries), 'term')} left out: {visible(named)}{'; ...' if len(entries) > 3 else ''}"


def _table(summary: dict[str, Any]) -> None:
    known = [entry for entry in summary["terms"] if entry["due"] or entry["right_avoid"] or entry["leak"]]
    worst = sorted(known, key=lambda e: (1.0 if e["success"] is None else e["success"], -e["due"]))
    rows = [[entry["use"], entry["avoid"], *_cells(entry)] for entry in worst[:_TERMS]]
    headings = ["use", "instead of", "due", "success", "95 % interval", "first", "right", "over-use", "leak"]
    rows.append(["all", "", *_cells(summary["all"])])
    print_table(
        fitted_table(f"\nTerms, worst first ({len(rows) - 1} of {len(summary['terms'])})", headings, rows, 2, keys=2)
    )


def _cells(entry: Mapping[str, Any]) -> list[str]:
    """The numbers of a row of the table; ``right`` counts places at which the word to avoid is right."""
    between = MISSING if entry["low"] is None else f"{_share(entry['low'])} to {_share(entry['high'])}"
    shares = [_share(entry[name]) for name in ("success", "first", "over_use", "leak")]
    return [str(entry["due"]), shares[0], between, shares[1], str(entry["right_avoid"]), shares[2], shares[3]]


def _share(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def _reasons(summary: dict[str, Any]) -> Iterator[str]:
    names = {"success": "success", "over_use": "over-use", "leak": "leak", "unmeasured": "not measured"}
    for name, reason in summary["all"]["notes"].items():
        yield f"{names[name]}: {reason}"


def _compliance_lines(summary: dict[str, Any]) -> Iterator[str]:
    kept = summary["compliance"]
    if kept["share"] is None:
        yield f"\n{summary['data']} has no word of the terms"
        return
    between = "" if kept["low"] is None else f", 95 % interval {_share(kept['low'])} to {_share(kept['high'])}"
    right = f", {kept['allowed']} more that are right" if kept["allowed"] else ""
    yield (
        f"\ncompliance of {summary['data']}: {_share(kept['share'])}{between}: {kept['use']} places of wanted words, "
        f"{kept['avoid']} of words to avoid{right}"
    )
    wrong = sorted(kept["terms"], key=lambda entry: -entry["avoid_places"])
    for entry in wrong[:_TERMS]:
        if entry["avoid_places"]:
            yield f"{entry['avoid']}: {entry['avoid_places']}, {entry['use']}: {entry['use_places']}"
            for place in entry["examples"][:1]:
                yield f"    {_around(place)}; {place['where']}"


def _place_line(place: Mapping[str, Any]) -> str:
    return f"{place['logit_gap']:+.2f} nat  {_around(place)}  against {visible(place['other'])!r}; {place['where']}"


def _around(place: Mapping[str, Any]) -> str:
    before, after = (_SPACES.sub(" ", place[side]) for side in ("before", "after"))
    return f"...{visible(before[-_BEFORE:])}[{visible(place['word'])}]{visible(after[:_AFTER])}..."
