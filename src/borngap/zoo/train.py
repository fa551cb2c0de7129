"""Training of a bundled model from its recipe: deterministic, resumable, on the CPU."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from borngap.folder import Folder, FolderKind
from borngap.model.load import new_model
from borngap.runfolder import environment
from borngap.train.optimiser import adamw, descend
from borngap.zoo.corpus import Corpus
from borngap.zoo.recipe import CONTEXT, END_OF_TEXT, VOCABULARY, Recipe

CHECKPOINT_EVERY = 100
CHECKPOINT_FILE = "checkpoint.safetensors"
_EPS = 1e-8  # of AdamW
OnUpdate = Callable[[int, float], None]


class Checkpoints(Folder):
    """The checkpoint of a training."""

    kind = FolderKind("training", "training.json")


def train_tokenizer(corpus: Corpus, size: int = VOCABULARY) -> Tokenizer:
    """Train the zoo's byte-level BPE tokenizer (GPT-2 pre-tokenisation) on the training documents.

    Args:
        corpus: the documents.
        size: number of tokens, the special end-of-text token included.

    Returns:
        The tokenizer; id 0 is the end-of-text token.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus.train, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, documents: tuple[str, ...]) -> Tensor:
    """Return all documents' token ids in one row, an end-of-text token after each; int64, shape (n,)."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    encoded = tokenizer.encode_batch(list(documents))
    return torch.tensor([i for item in encoded for i in (*item.ids, end)], dtype=torch.long)


def training_windows(tokens: Tensor, seed: int) -> Tensor:
    """Cut a row of tokens into shuffled training windows; int64, shape (n, CONTEXT + 1), neighbours share a token."""
    count = (len(tokens) - 1) // CONTEXT
    starts = torch.randperm(count, generator=torch.Generator().manual_seed(seed)) * CONTEXT
    return tokens[starts[:, None] + torch.arange(CONTEXT + 1)]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the rate of update number ``step`` (from 0): linear warm-up, then cosine to 0."""
    if step < recipe.warmup:
        return recipe.peak_rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.peak_rate * 0.5 * (1 + math.cos(math.pi * done))


class _HeadCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of hidden @ weight.T, in chunks: the n x V logits are never held at once."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        hidden_grad, weight_grad, total = torch.empty_like(hidden), torch.zeros_like(weight), hidden.new_zeros(())
        for rows in torch.arange(len(targets)).split(512):
            logits = hidden[rows] @ weight.T
            logits -= logits.amax(1, keepdim=True)
            picked = logits.gather(1, targets[rows, None])
            scale = logits.exp_().sum(1, keepdim=True)
            total = total + (scale.log() - picked).sum()
            logits /= scale
            logits[torch.arange(len(rows)), targets[rows]] -= 1
            logits /= len(targets)
            hidden_grad[rows] = logits @ weight
            weight_grad.addmm_(logits.T, hidden[rows])
        ctx.save_for_backward(hidden_grad, weight_grad)
        return total / len(targets)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden_grad, weight_grad = ctx.saved_tensors
        return upstream * hidden_grad, upstream * weight_grad, None


def loss_of(model: Any, batch: Tensor) -> Tensor:
    """Return the mean next-token cross-entropy (nat) of windows, int64, shape (b, length + 1)."""
    hidden = model.base_model(input_ids=batch[:, :-1], use_cache=False).last_hidden_state
    weight = model.get_output_embeddings().weight
    return _HeadCrossEntropy.apply(hidden.flatten(0, 1), weight, batch[:, 1:].flatten())


def update(model: Any, optimiser: torch.optim.Optimizer, recipe: Recipe, data: Tensor, step: int) -> float:
    """Do one update of a training.

    Args:
        model: in train mode.
        optimiser: of all its parameters.
        recipe: batch, rate and clipping.
        data: windows, int64, shape (n, CONTEXT + 1).
        step: number of the update, from 0; says which windows it reads.

    Returns:
        The batch's loss before the update, unit nat.
    """
    rows = (torch.arange(recipe.batch) + step * recipe.batch) % len(data)
    loss = loss_of(model, data[rows])
    descend(optimiser, loss, learning_rate(recipe, step), recipe.clip)
    return float(loss.detach())


def train(recipe: Recipe, data: Tensor, work: Path, progress: OnUpdate | None = None) -> tuple[Any, float]:
    """Train one model; a rerun with the same ``work`` folder goes on from the last checkpoint.

    Args:
        recipe: what to train.
        data: windows, int64, shape (n, CONTEXT + 1); read in order, again from the start when used up.
        work: folder for the checkpoint; of this recipe on these data alone.
        progress: called as ``progress(step, loss)`` after each step.

    Returns:
        The trained model in float32, and the seconds that its training took, over all calls.
    """
    model = _initial_model(recipe)
    model.train()
    optimiser = adamw(model.parameters(), recipe.peak_rate, recipe.betas, _EPS, recipe.weight_decay)
    plan = asdict(recipe) | {"data": sha256(data.numpy().tobytes()).hexdigest()}
    with Checkpoints(work, plan, environment()) as folder:
        first, spent = _restore(work, model, optimiser)
        started = time.monotonic() - spent
        for step in range(first, recipe.steps):
            loss = update(model, optimiser, recipe, data, step)
            if progress:
                progress(step + 1, loss)
            if (step + 1) % CHECKPOINT_EVERY == 0:
                folder.write(CHECKPOINT_FILE, _checkpoint(model, optimiser, step + 1, time.monotonic() - started))
    return model.eval(), time.monotonic() - started


def _initial_model(recipe: Recipe) -> Any:
    """An untied model starts as the copy of its tied twin, so that the pair differs in nothing but the tie."""
    torch.manual_seed(recipe.seed)
    if recipe.tied:
        return new_model(recipe.family, recipe.config())
    tied = new_model(recipe.family, recipe.config() | {"tie_word_embeddings": True})
    model = new_model(recipe.family, recipe.config())
    model.load_state_dict(tied.state_dict())
    return model


def _checkpoint(model: Any, optimiser: torch.optim.Optimizer, step: int, seconds: float) -> bytes:
    tensors: dict[str, Tensor] = {}
    for index, parameter in enumerate(model.parameters()):
        state = optimiser.state[parameter]
        tensors |= {f"{index}.{key}": state[key] for key in ("exp_avg", "exp_avg_sq", "step")}
        tensors[f"{index}.value"] = parameter.detach()
    return save(tensors, metadata={"step": str(step), "seconds": str(seconds)})


def _restore(work: Path, model: Any, optimiser: torch.optim.Optimizer) -> tuple[int, float]:
    """Load the last checkpoint; return the steps and the seconds that it stands for."""
    path = work / CHECKPOINT_FILE
    if not path.exists():
        return 0, 0.0
    with safe_open(path, "pt") as saved:
        for index, parameter in enumerate(model.parameters()):
            parameter.data.copy_(saved.get_tensor(f"{index}.value"))
            optimiser.state[parameter] = {
                key: saved.get_tensor(f"{index}.{key}") for key in ("exp_avg", "exp_avg_sq", "step")
            }
        metadata = saved.metadata()
    return int(metadata["step"]), float(metadata["seconds"])
