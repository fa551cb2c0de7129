"""The making of a bundled model, from the installed packages to a folder that transformers loads."""

from __future__ import annotations

import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from borngap.files import make_folder, write_whole
from borngap.zoo import corpus as corpus_module
from borngap.zoo.card import write_card
from borngap.zoo.corpus import Corpus, build_corpus, pinned_packages
from borngap.zoo.recipe import END_OF_TEXT, Recipe
from borngap.zoo.train import OnUpdate, encode, train, train_tokenizer, training_windows


def cached_corpus(work: Path, site: Path | None) -> Corpus:
    """Build the corpus, or read what an earlier call with the same pins and the same code kept in ``work``."""
    code = Path(corpus_module.__file__).read_bytes() + corpus_module.PACKAGES_FILE.read_bytes()
    path = work / f"corpus-{sha256(code).hexdigest()[:12]}.json"
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Corpus(tuple(kept["train"]), tuple(kept["held_out"]), kept["packages"], kept["sha256"])
    built = build_corpus(site)
    write_whole(path, json.dumps(asdict(built)).encode())
    return built


def make(recipe: Recipe, corpus: Corpus, out: Path, work: Path, progress: OnUpdate | None = None) -> dict[str, Any]:
    """Train a model and write its folder: weights in float16, tokenizer, configuration, card.

    Args:
        recipe: what to make.
        corpus: what to train on.
        out: the folder to write.
        work: folder for the checkpoint; a rerun goes on from there.
        progress: called as ``progress(step, loss)`` after each step.

    Returns:
        The card.
    """
    make_folder(out)  # before hours of training, not after
    tokenizer = train_tokenizer(corpus)
    tokens = encode(tokenizer, corpus.train)
    held_out = encode(tokenizer, corpus.held_out)
    model, seconds = train(recipe, training_windows(tokens, recipe.seed), work / recipe.name, progress)
    save(model, tokenizer, out)
    made = {
        "recipe": asdict(recipe),
        "corpus": {
            "packages": corpus.packages,
            "held_out": sorted(pinned_packages()["held_out"]),
            "train_tokens": len(tokens),
            "held_out_tokens": len(held_out),
            "train_documents": len(corpus.train),
            "held_out_documents": len(corpus.held_out),
            "sha256": corpus.sha256,
        },
        "training": {"seconds": round(seconds), "threads": torch.get_num_threads()},
    }
    return write_card(out, made, held_out)


def save(model: Any, tokenizer: Tokenizer, out: Path) -> None:
    """Write model and tokenizer for plain ``from_pretrained``: stored in float16, loaded as float32."""
    model.half().save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # safetensors writes it for its owner alone
    config = json.loads((out / "config.json").read_text(encoding="utf-8")) | {"dtype": "float32"}
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(out)
    compact = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    (out / "tokenizer.json").write_text(
        json.dumps(compact, ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
    )


def held_out_tokens(folder: Path, work: Path, site: Path | None) -> torch.Tensor:
    """Return the held-out text as token ids of a bundled model's tokenizer; int64, shape (n,)."""
    corpus = cached_corpus(work, site)
    return encode(Tokenizer.from_file(str(folder / "tokenizer.json")), corpus.held_out)
