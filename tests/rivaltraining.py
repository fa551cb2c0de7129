"""What tests of RivalLoss share: words, rows, and a training loop of one's own."""

import copy

import torch
from transformers import DataCollatorForSeq2Seq

PAIRS = [("exception", "error"), ("argument", "parameter"), ("folder", "directory"), ("keyword argument", "option")]
TEXTS = [
    "The function raises an exception. If the argument is wrong, another exception is raised.",
    "Exceptions are raised here.",
    "An error is printed. The folder is empty; the folders are too.",
    "Pass a keyword argument to it, and the argument is kept.",
    "Nothing of interest stands in this row at all.",
]
RATE, EPS = 1e-3, 1e-3  # an epsilon that keeps AdamW from making gradients of rounding into updates
OPTIMISER = {"learning_rate": RATE, "adam_epsilon": EPS, "weight_decay": 0.0}
KINDS = [("margin", 3.0), ("logistic", 3.0), ("unlikelihood", 30.0), ("weight", 10.0)]


def rows_of(tokenizer, masked=0):
    found = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        found.append({"input_ids": ids, "labels": [-100] * masked + ids[masked:], "attention_mask": [1] * len(ids)})
    return found


def padded(tokenizer, rows):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    return DataCollatorForSeq2Seq(tokenizer)(copy.deepcopy(rows))


def plain_run(model, batches, loss, steps):
    """A loop of one's own: each update's batches, divided by their supervised tokens."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, eps=EPS)
    model.eval()
    for own in batches[:steps]:
        items = own[0].get("items", sum(int((b["labels"][:, 1:] >= 0).sum()) for b in own))
        for batch in own:
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            loss(logits, batch["labels"], items).backward()
        optimiser.step()
        optimiser.zero_grad()
    return model
