"""The sentences of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from borngap.cuts import (
    CATAPULT,
    CATAPULT_LIKE,
    DENSE_CROWDING,
    INTERMEDIATE,
    JUMP,
    PHANTOM_SHARES,
    SILENT_FALL,
    SPARSE_CROWDING,
)
from borngap.judge.verdicts import WATCHED_ADVICE
from borngap.report.facts.entries import RunPlan
from borngap.report.facts.typed import as_table
from borngap.report.records import ContextRecord, MatrixRecord, ModelGeometry, Needed, Number
from borngap.report.text import MISSING, count, number, rate
from borngap.shown import public, visible

AHEAD = frozenset({"resolved", "pre-resolved"})
_BEATS = {
    "rank": ("the near-synonym still beats the right word", "The right word is ahead of its near-synonym"),
    "top1": ("another word still beats the right one", "The right word is the model's first choice"),
    "born": ("the near-synonym is still ahead by the Born gap", "The right word is ahead by the Born gap"),
}
_SILENT = "the loss fell smoothly all the while: it alone would not have told"
_SHARES = " to ".join(f"{share:g}" for share in PHANTOM_SHARES)
GLOSSARY = {
    "context": "a prompt and the word that should come next: one prediction",
    "gold": "the right next word",
    "rival": "its near-synonym, which competes for the same place",
    "overlap": "how alike gold and rival are to the model: cosine of their embeddings, from −1 to 1",
    "logit gap": "lead of gold over rival in the model's own scores; above 0, gold is the more probable of the two",
    "Born gap": "the same lead under a score that counts overlapping words together; signal + drag, exactly",
    "signal": "the part of the Born gap that comes from gold and rival themselves",
    "drag": "the part that comes from all other words: negative when they lie nearer to the rival",
    "flip": "first step at which gold is ahead, where it was not at the start",
    "stop": "step at which the saturation rule would have ended training: gold ahead, Born gap no longer moving",
    "resolved": "gold was behind at the start and is ahead at the end",
    "pre-resolved": "gold was ahead all along",
    "unresolved": "gold was behind at the start and never came ahead",
    "structural": "unresolved by the Born gap, and the drag got worse",
    "kinematic": "unresolved by the Born gap, without that: the dose was too small",
    "relapsed": "gold came ahead on the way and fell back",
    "lost": "gold was ahead at the start and is behind at the end",
    "diverged": "a value ceased to be finite",
    "silent": f"the loss fell by {SILENT_FALL:g} nat at least, never rose, and gold was never ahead of its rival",
    "jump ratio": "largest change of the Born gap between records over the mean change",
    "character": f"how concentrated the change was, by the jump ratio: catapult from {CATAPULT:g}, catapult-like from "
    f"{CATAPULT_LIKE:g}, intermediate from {INTERMEDIATE:g}, borderline from {JUMP:g}, else drift",
    "phantom": f"a jump ratio of {JUMP:g} at least, and the jump stays (share {_SHARES}) when the embeddings are held "
    "as they were at the start: what jumps is the readout, not the geometry",
    "needed rate": "the smallest constant learning rate at which gold is ahead after the same number of steps on this "
    "context alone (a run on a data set moves it far less): forecast, or estimated from the step of the flip (used "
    "rate × flip / steps), which is rough",
    "used rate": "the learning rate of the run",
    "crowding": "dimension × mean squared overlap of random pairs: 1 for directions spread evenly; class A (dense) "
    f"from {DENSE_CROWDING:g}, B (sparse) up to {SPARSE_CROWDING:g}",
}


def verdict_sentence(contexts: Sequence[ContextRecord], criterion: str, dose: str) -> str:
    """Say in one or two sentences how a run ended.

    Args:
        contexts: context records of a summary.
        criterion: what counts as resolved.
        dose: steps and rate, in words; empty where they are not known.

    Returns:
        The verdict; of a run without contexts, that there is nothing to judge.
    """
    if not contexts:
        return "This run has no finished context yet, so there is nothing to judge."
    outcomes = [c["outcome"] for c in contexts]
    failed = [c for c in contexts if c["outcome"] not in AHEAD]
    before, learnt, total = outcomes.count("pre-resolved"), outcomes.count("resolved"), len(contexts)
    fails, holds = _BEATS.get(criterion, _BEATS["rank"])
    told = ((learnt, "learnt it in this run"), (before, "had it before"))
    rest = ", ".join(f"{number_} {what}" for number_, what in told if number_) or "none learnt it"
    where = "in the one context" if total == 1 else f"in all {total} contexts"
    if not failed:
        return f"{holds} {where}" + (f": {rest}." if total > 1 else ".")
    after = f" after {dose}" if dose else ""
    return f"In {len(failed)} of {count(total, 'context')} {fails}{after}; {rest}.{_quietly(failed)}"


def _quietly(failed: Sequence[ContextRecord]) -> str:
    quiet = sum(c["silent"] is True for c in failed)
    if not quiet:
        return ""
    each = "each" if quiet == len(failed) else str(quiet)
    return f" In {each} of the {len(failed)} {_SILENT}." if len(failed) > 1 else f" There {_SILENT}."


def phantom_sentence(contexts: Sequence[ContextRecord]) -> str:
    """Say how many jumps there were and whether the geometry took part in them."""
    jumped = [c for c in contexts if c["jump_ratio"] is not None and c["jump_ratio"] >= JUMP]
    if not jumped:
        none = f"The Born gap jumped in none of the contexts (jump ratio {JUMP:g} or more)"
        return f"{none}: there is nothing to explain away."
    shares = [c["readout_share"] for c in jumped if c["readout_share"] is not None]
    spread = f" With the embeddings held as at the start, {_range(shares)} of the jump is left." if shares else ""
    phantoms = sum(c["phantom"] is True for c in jumped)
    return (
        f"The Born gap jumped in {len(jumped)} of {count(len(contexts), 'context')}; in {phantoms} of these the jump "
        f"is in the readout, not in the geometry.{spread}"
    )


def _range(shares: Sequence[float]) -> str:
    low, high = 100 * min(shares), 100 * max(shares)
    return f"{low:.0f} %" if round(low) == round(high) else f"{low:.0f} to {high:.0f} %"


def geometry_sentence(record: ModelGeometry) -> str:
    """Say how crowded a model's readout is and what that means."""
    matrices = record["matrices"]
    if not matrices:
        return record["missing"] or "not measured"
    readout = matrices["readout"]
    head = {None: "", True: " (its head is tied: input and readout are one matrix)", False: " (its head is untied)"}
    return (
        f"The readout of {record['model']} is {CLASSES[readout['class']]}: two random words overlap "
        f"{number(readout['crowding'])} times as much as in a space that is evenly filled"
        f"{head[record['tied']]}. {_centering(matrices)}"
    )


CLASSES = {"A": "dense (class A)", "B": "sparse (class B)", "intermediate": "between dense and sparse (intermediate)"}


def _centering(matrices: Mapping[str, MatrixRecord]) -> str:
    centered = matrices.get("centered")
    if not centered:
        return ""
    return (
        f"Without the direction that all rows share, which no probability depends on, it is "
        f"{number(centered['crowding'])} times."
    )


def remedy_sentence(behind: int) -> str:
    """Say what helps words that stayed behind in a run on a data set."""
    return (
        f"{count(behind, 'context')} stayed behind. A watched context is not trained on by itself, so no rate of its "
        f"own is named. What helps: {WATCHED_ADVICE}."
    )


def watched_sentence(usage: Sequence[Mapping[str, Number]]) -> str:
    """Say how success and over-use of the terms that a run watched went.

    Args:
        usage: one row a step, with ``step``, ``success``, ``first`` and ``over_use``; at least one.

    Returns:
        A sentence.
    """
    first, last = usage[0], usage[-1]
    best = max(usage, key=lambda row: row["success"] or 0.0)
    names = {"success": "success", "first": "first choice", "over_use": "over-use"}
    went = [
        f"{name} {number(first[key])} → {number(last[key])}" for key, name in names.items() if last[key] is not None
    ]
    return (
        f"Terms from step {number(first['step'])} to {number(last['step'])}: {', '.join(went)}; the largest success "
        f"was {number(best['success'])}, at step {number(best['step'])}. Their places are watched as contexts."
    )


def needed_text(needed: Needed) -> str:
    """Write the rate a context needs: with its interval, as a bound, or why there is none."""
    if needed["rate"] is None:
        return needed["why"] or MISSING
    about = "about " if needed["how"] == "dose" else ""
    spread = ""
    if needed["low"] is not None and needed["high"] is not None:
        spread = f" [{rate(needed['low'], 3)}, {rate(needed['high'], 3)}]"
    return f"{about}{rate(needed['rate'], 3 if spread else 2)}{spread}"


def used_text(context: ContextRecord) -> str:
    """Write the used rate, and how many times the needed one it is."""
    if context["used_rate"] is None:
        return ""
    ratio = context["needed"]["ratio"]
    return f"used {rate(context['used_rate'])}" + (f" ({number(ratio, 2)} ×)" if ratio is not None else "")


def precision_words(dtype: str | None, measured_in: str | None) -> str:
    """Say what a run's or scan's weights and logits are held in; nothing where it does not tell."""
    if not dtype:
        return ""
    return dtype + (f", norm and head in {measured_in}" if measured_in not in {None, dtype} else "")


def made_sentence(plan: RunPlan, environment: Mapping[str, object]) -> str:
    """Say in a line how a run was made, as far as it tells."""
    together = {
        True: "contexts trained together",
        False: "each context trained alone from the base weights",
        None: None,
    }
    parts = [
        None if plan.model is None else public(plan.model),
        plan.method,
        plan.loss,
        None if plan.rate is None else f"rate {rate(plan.rate)} ({plan.schedule or 'schedule not known'})",
        None if plan.host is None else f"watched in {plan.host}",
        None if plan.steps is None else f"{plan.steps} steps",
        together[plan.joint],
        None if plan.seed is None else f"seed {plan.seed}",
        None if plan.weights is None else f"weights {plan.weights}",
        precision_words(plan.dtype, plan.measured_in),
        *environment_words(environment),
    ]
    return visible("; ".join(part for part in parts if part) or "The run does not say how it was made") + "."


def environment_words(environment: Mapping[str, object]) -> list[str]:
    """Return the versions that count, and when it was started, as far as an environment tells."""
    versions = as_table(environment.get("versions"))
    known = [f"{name} {versions[name]}" for name in ("borngap", "torch", "transformers", "peft") if versions.get(name)]
    started = [f"started {environment['started']}"] if "started" in environment else []
    return [part for part in (", ".join(known), *started) if part]
