"""Remedies for a right word that stays behind: what each gains and what it costs, at equal dose.

    python benchmarks/remedies.py --runs docs-gpt2-s:full:3e-4:cosine:house --remedies none,weight:3,margin:3,dft
    python benchmarks/remedy_table.py FOLDER

A run is MODEL:METHOD:RATE:SCHEDULE:CORPUS, as in whole_runs.py, with as many steps and rows for every remedy:

* ``base``: no training; ``none``: cross-entropy
* LOSS:WEIGHT: a loss of remedy_losses.py; ``both+LOSS:WEIGHT``: at words to avoid too, where they are right, reversed
* ``upsample:N``: rows with a wanted word N times; ``rate:N``: N times the rate
* ``head``: the output matrix as a LoRA target too (a tied head is then set apart from the input); ``head+LOSS:WEIGHT``
* ``dpo:BETA``, ``orpo:BETA``, ``simpo:BETA``: TRL's trainers after the run, as many gradients again
  (remedy_preferences.py)

A logit bias needs no run: it is computed from every stored one.

The base forms of the wanted words are trained; their inflected forms are taken out of every run's loss, so that places
of inflected forms tell what carries over to words that nothing taught. Every corpus has rows in which the other word is
right. What a folder holds already is not done again. The table: remedy_table.py.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from borngap.data.recognise import layout_of
from borngap.data.source import source_of
from borngap.files import write_whole
from borngap.model.load import Loaded, load, quiet
from borngap.model.readout import observing
from borngap.pilot.draw import PilotSteps
from borngap.pilot.places.spots import Spot, spots_of_terms
from borngap.pilot.prepare import asked_of, prepare_run
from borngap.pilot.rows import model_inputs
from borngap.pilot.settings import Piloting
from borngap.pilot.wholerun import RunJob, prepared
from borngap.scanning.supervised import Example, Supervision, examples_of
from borngap.training import Training
from borngap.usage.allowed import Allowed
from borngap.usage.places import Placer
from borngap.words.occurrences import Finder
from borngap.words.termfile import terms_of
from borngap.zoo.housestyle import HouseStyle
from corpora import corpus
from remedy_losses import LOSSES, PENALTIES, loss_of, without_inflections

BIASES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # nat, at which the held-out loss is measured
LOSS_ROWS = 260  # held-out rows whose loss is measured; of the others only those with a place are read
PREFERENCES = ("dpo", "orpo", "simpo")
_TOGETHER = 16
_DIGITS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", required=True)
    parser.add_argument("--remedies", default="base,none,weight:3,margin:3")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--limit", type=int, help="rows to train on")
    parser.add_argument("--out", type=Path, default=Path("remedies"))
    options = parser.parse_args()
    quiet()
    for run in options.runs.split(","):
        bench = None
        for remedy in options.remedies.split(","):
            for seed in [0] if remedy == "base" else map(int, options.seeds.split(",")):
                file = folder_of(options, run) / f"{remedy.replace(':', '-')}-{seed}.json"
                if not file.exists():
                    bench = bench or bench_of(run, options)
                    write_whole(file, json.dumps(bench.done(remedy, seed)).encode())
                    print(line(json.loads(file.read_text())), flush=True)


def folder_of(options: argparse.Namespace, run: str) -> Path:
    return options.out / f"{run.replace(':', '-')}-{options.steps}"


@dataclass(frozen=True)
class Bench:
    """A model, a corpus, and the places at which it is looked at."""

    run: str
    loaded: Loaded
    style: HouseStyle
    settings: Piloting
    training: Training
    placer: Placer
    finder: Finder
    spots: list[Spot]
    examples: list[Example]
    forms: list[str]
    sides: tuple[list[int], list[int]]

    def done(self, remedy: str, seed: int) -> dict[str, Any]:
        """Do a run, and look."""
        began = time.time()
        head = {"run": self.run, "remedy": remedy, "seed": seed, "steps": self.training.steps}
        if remedy == "base":
            return head | self.look(self.loaded.model) | {"seconds": time.time() - began}
        job, pairs, targets = self.job(remedy, seed)
        kind, _, weight = remedy.removeprefix("head").removeprefix("both").removeprefix("+").partition(":")
        chosen = pairs["avoid"] | pairs["use"] if remedy.startswith("both") else pairs["use"]
        loss = loss_of(kind, float(weight or 0), chosen) if kind in LOSSES else None
        with prepared(job, loss) as trainee:
            course = trainee.train(job.plan, PilotSteps(job.plan.steps, tuple(job.plan.rates), 1.0), seed)
            after = self.continued(kind, float(weight or 0), trainee.model, job)
            looked = self.look(trainee.model if after is None else after)
        told = {"tokens": course.tokens, "rows": len(job.plan.rows), "pairs": len(chosen), "targets": targets}
        return head | told | looked | {"seconds": time.time() - began}

    def continued(self, kind: str, weight: float, model: Any, job: RunJob) -> Any:
        """Train on with TRL's preference trainers, where the remedy is one of theirs."""
        if kind not in PREFERENCES:
            return None
        from remedy_preferences import preferring  # loads TRL

        return preferring(kind, weight, model, self.loaded.tokenizer, job, list(self.style.train), self.style.terms)

    def job(self, remedy: str, seed: int) -> tuple[RunJob, dict[str, dict[int, int]], dict[str, int]]:
        """Return the run of a remedy, the pairs of tokens, and how many targets they have."""
        kind, _, number = remedy.partition(":")
        training, rows = replace(self.training, seed=seed), list(self.style.train)
        if kind == "rate":
            training = replace(training, rate=training.learning_rate * float(number))
        if kind in PENALTIES:
            training = replace(training, penalty=f"{PENALTIES[kind]}:{number}")
        if kind.startswith("head"):
            training = replace(training, lora_targets=(*training.lora_targets, "readout"))
        if kind == "upsample":
            rows += [row for row in rows if self.has_wanted(row)] * (int(number) - 1)
        asked = asked_of(self.style.held_out, self.style.terms, None, Allowed(None, "allowed"))
        job = prepare_run(self.loaded, source_of(rows), asked, training, self.settings)
        taught, pairs, targets = without_inflections(job.plan.rows, self.placer, self.style.terms)
        plan = replace(job.plan, rows=tuple(taught))
        return replace(job, plan=plan, pairs=tuple(pairs["use"].items())), pairs, targets

    def has_wanted(self, row: dict[str, Any]) -> bool:
        found = self.finder.find(answer_of(row))
        return any(o.side == "use" and o.text.lower() == self.style.terms[o.term][0].lower() for o in found)

    def look(self, model: Any) -> dict[str, Any]:
        """Ask a model at every place, and for the loss of held-out rows, with and without a bias on the words."""
        asked = {id(example): [] for example in self.examples}
        for number, spot in enumerate(self.spots):
            asked[id(spot.example)].append(number)
        places: list[Any] = [None] * len(self.spots)
        losses: list[Any] = [None] * len(self.examples)
        order = sorted(range(len(self.examples)), key=lambda i: len(self.examples[i].ids))
        with observing(model):
            for start in range(0, len(order), _TOGETHER):
                part = order[start : start + _TOGETHER]
                logits = model(**read([self.examples[i] for i in part])).logits.float()
                for row, i in enumerate(part):
                    example = self.examples[i]
                    if example.row.number < LOSS_ROWS:
                        losses[i] = row_loss(logits[row], example, self.sides)
                    for number in asked[id(example)]:
                        places[number] = at_place(logits[row], self.spots[number])
        return {"places": places, "rows": [loss for loss in losses if loss is not None]}

    def described(self) -> dict[str, Any]:
        """What the places are, the same for all runs of a model and corpus."""
        return {
            "row": [s.example.row.number for s in self.spots], "kind": [s.kind for s in self.spots],
            "form": self.forms, "term": [s.terms[0] for s in self.spots], "gold": [s.gold for s in self.spots],
        }  # fmt: skip


def read(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    inputs = model_inputs(examples)
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}


def at_place(logits: torch.Tensor, spot: Spot) -> list[float]:
    """Logit gap of gold over rival, log probability of both, and whether gold is the first choice."""
    own = logits[spot.offset - 1].double()
    gold, rival = (own[i] - own.logsumexp(0) for i in (spot.gold_id, spot.rival_id))
    first = float(int(own.argmax()) == spot.gold_id)
    return [round(float(x), _DIGITS) for x in (gold - rival, gold, rival)] + [first]


def row_loss(logits: torch.Tensor, example: Example, sides: tuple[list[int], list[int]]) -> list[float]:
    """Tokens and summed loss of a row: as it is; with each bias on the wanted words, then less it on the others."""
    at = [i for i in range(1, len(example.ids)) if example.labels[i] != -100]
    chances = logits[[i - 1 for i in at]].double().log_softmax(1)
    goal = torch.tensor([example.ids[i] for i in at])
    plain = -chances.gather(1, goal[:, None]).squeeze(1)
    found = [plain.sum()]
    for sign, side in zip((1.0, -1.0), sides, strict=True):
        mass = chances[:, side].exp().sum(1)
        on = torch.isin(goal, torch.tensor(side)).double()
        for bias in BIASES:
            shift = torch.tensor(sign * bias, dtype=torch.float64)
            found.append((plain + torch.log1p(mass * torch.expm1(shift)) - shift * on).sum())
    return [len(at), *(round(float(x), _DIGITS) for x in found)]


def bench_of(run: str, options: argparse.Namespace) -> Bench:
    """Load a model, make a corpus, and choose where to look."""
    name, method, rate, schedule, named = run.rsplit(":", 4)
    loaded = load(name)
    style = marked(corpus(named, templated=loaded.tokenizer.chat_template is not None), named)
    settings = Piloting(
        max_length=options.max_length, packing=named != "chat", limit=options.limit, allowed_field="allowed"
    )  # fmt: skip
    training = Training(
        method=method, rate=float(rate), schedule=schedule, steps=options.steps, batch_size=options.batch
    )  # fmt: skip
    terms = terms_of(style.terms)
    finder = Finder(terms.terms)
    placer = Placer(loaded.tokenizer, finder)
    source = source_of(list(style.held_out))
    supervision = Supervision(loaded.tokenizer, layout_of(source, settings.fields), options.max_length, settings.loss)
    examples, _ = examples_of(source.rows(0, None), supervision, loaded.model.config.vocab_size)
    spots, _, _ = spots_of_terms(examples, placer, terms.terms, Allowed(None, "allowed"))
    looked = {id(spot.example) for spot in spots}
    chosen = [e for e in examples if len(e.ids) > 1 and (id(e) in looked or e.row.number < LOSS_ROWS)]
    forms = [form_of(spot, style.terms) for spot in spots]
    due = [s for s in spots if s.kind == "due"]
    sides = sorted({s.gold_id for s in due}), sorted({s.rival_id for s in due})
    bench = Bench(run, loaded, style, settings, training, placer, finder, spots, chosen, forms, sides)
    write_whole(folder_of(options, run) / "places.json", json.dumps(bench.described()).encode())
    return bench


def form_of(spot: Spot, terms: Sequence[tuple[str, str]]) -> str:
    """Whether a place has the base form of its word, which is trained, or another."""
    return "base" if spot.gold.lower() == terms[spot.terms[0]][spot.kind != "due"].lower() else "inflected"


def marked(style: HouseStyle, name: str) -> HouseStyle:
    """Prose as it stands has its words where they are right."""
    if name != "domain":
        return style
    sides = [tuple(row | {"allowed": True} for row in rows) for rows in (style.train, style.held_out)]
    return replace(style, train=sides[0], held_out=sides[1])


def answer_of(row: dict[str, Any]) -> str:
    answer = row.get("text") or row["completion"]
    return answer if isinstance(answer, str) else str(answer[0]["content"])


def line(entry: dict[str, Any]) -> str:
    tokens, loss = (sum(row[i] for row in entry["rows"]) for i in (0, 1))
    ahead = sum(place[0] > 0 for place in entry["places"]) / len(entry["places"])
    name = " ".join(str(entry[key]) for key in ("run", "remedy", "seed"))
    return f"{name}: gold ahead {ahead:.3f}, loss {loss / tokens:.4f}, {entry['seconds']:.0f} s"


if __name__ == "__main__":
    main()
