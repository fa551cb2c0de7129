"""What ``attention`` stands for in every causal LM type of transformers, against PEFT's own table.

Models have two to four layers and no weights (they are on the meta device), so that all types take a minute. A line a
type: the class, the names that LoRA would adapt, and where PEFT's table says something else.

    python benchmarks/lora_targets.py
"""

from __future__ import annotations

import re
import time
import warnings
from collections import Counter

import torch
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TABLE
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto import modeling_auto
from transformers.utils import logging

from borngap.errors import UserError
from borngap.train.targets import targets_of

DEPTHS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers", "depth")


def shallow(kind):
    """Return a configuration of a type with few layers."""
    config = AutoConfig.for_model(kind)
    parts = [config, *(part for part in vars(config).values() if hasattr(part, "to_dict"))]
    for part in parts:
        for name in DEPTHS:
            if isinstance(getattr(part, name, None), int):
                setattr(part, name, min(4, getattr(part, name)))
    if hasattr(config, "is_decoder"):
        config.is_decoder = True
    return config


def look(kind, auto):
    """Return a line on a type, and what became of it."""
    try:
        with torch.device("meta"):
            model = auto.from_config(shallow(kind))
    except Exception as error:  # noqa: BLE001  # default settings of some types contradict one another
        return f"{kind}: not built: {type(error).__name__}", "not built"
    if model.get_output_embeddings() is None:
        return f"{kind}: no output embedding", "no output embedding"
    try:
        found = targets_of(model, ["attention"])
    except UserError as error:
        return f"{kind}: {error.what}", "none"
    names = sorted({re.sub(r".*\.(?=\D)", "", path) for path in found})
    expected = TABLE.get(kind)
    same = expected is None or set(names) == set(expected)
    remark = "" if same else f"; PEFT's table: {expected}"
    return f"{kind} ({type(model).__name__}): {', '.join(names)}{remark}", "found" if same else "unlike the table"


def main():
    """Print the list and the counts."""
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    seeing = [k for k in modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES if k not in causal]
    start = time.perf_counter()
    for title, kinds, auto in (
        ("causal", list(causal), AutoModelForCausalLM),
        ("image and text", seeing, AutoModelForImageTextToText),
    ):
        counts = Counter()
        for kind in sorted(kinds):
            line, outcome = look(kind, auto)
            counts[outcome] += 1
            print(line)
        print(f"--- {title}: {len(kinds)} types: {dict(counts)}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
