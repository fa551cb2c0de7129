"""What tests of real hosts share: prose, contexts, a Trainer."""

import torch
from transformers import (
    Trainer,
    TrainingArguments,
    default_data_collator,
)

import borngap
from borngap.context import Context

CONTEXTS = [
    Context("The function raises an", " error", " exception"),
    Context("If the key is missing from the", " dictionary", " list"),
    Context("Call this", " method"),
]
PROSE = [
    "The function returns a list of the keys of the dictionary.",
    "If the argument is not a string, an error is raised.",
    "Return the value of the parameter, or the default.",
    "The method is called once for each item of the list.",
    "Read the file and return its lines as a list of strings.",
    "The name of the module is given as a string.",
]
TIED, UNTIED = "docs-gpt2-s", "docs-gpt2-s-untied"
LORA = {TIED: ["c_attn"], UNTIED: ["c_attn"]}


def example(tokenizer, context):
    prompt = tokenizer(context.prompt)["input_ids"]
    gold = tokenizer(context.gold)["input_ids"]
    return {
        "input_ids": prompt + gold,
        "labels": [-100] * len(prompt) + gold,
        "attention_mask": [1] * (len(prompt) + 1),
    }


def prose(tokenizer):
    rows = [tokenizer(text)["input_ids"][:9] for text in PROSE]
    return [{"input_ids": row, "labels": row, "attention_mask": [1] * len(row)} for row in rows if len(row) == 9]


def arguments(folder, **options):
    plain = {
        "output_dir": str(folder), "report_to": "none", "save_strategy": "no", "use_cpu": True, "disable_tqdm": True,
        "lr_scheduler_type": "constant", "max_grad_norm": 0.0, "learning_rate": 1e-3, "per_device_train_batch_size": 1,
        "max_steps": 6, "logging_steps": 2, "dataloader_pin_memory": False,
    }  # fmt: skip
    return TrainingArguments(**plain | options)


def trainer(folder, callbacks=(), *, name=TIED, model=None, data=None, kind=Trainer, **options):
    loaded = borngap.load(name)
    model = loaded.model if model is None else model
    return kind(
        model=model,
        args=arguments(folder, **options),
        train_dataset=prose(loaded.tokenizer) if data is None else data,
        eval_dataset=prose(loaded.tokenizer)[:2],
        data_collator=default_data_collator,
        processing_class=loaded.tokenizer,
        callbacks=list(callbacks),
    )


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def last_logits(model, ids):
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([ids])).logits[0, -1]
