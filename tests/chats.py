"""Tokenizers that put a start token in front, and a chat template like Llama 3's, which writes it too."""

from __future__ import annotations

import copy

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

BOS = "<|begin_of_text|>"
MARKS = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] | trim + '<|eot_id|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
CHATS = [
    [
        {"role": "system", "content": "Raise an error"},
        {"role": "user", "content": "What does the method return?"},
        {"role": "assistant", "content": "He said that the method returns a list of words; a dictionary of lists."},
        {"role": "user", "content": "And the man?"},
        {"role": "assistant", "content": "The old man felt shame and guilt. A guilty mind, a shameful act."},
    ],
    [
        {"role": "user", "content": "Raise"},
        {"role": "assistant", "content": "Raise an error; throw an exception. He felt guilt and shame, a list."},
    ],
]


def like_llama3(tokenizer):
    """Return a copy of a tokenizer that starts every text with its start token, and has the template."""
    other = copy.deepcopy(tokenizer)
    other.add_special_tokens({"bos_token": BOS, "eos_token": MARKS[2], "additional_special_tokens": MARKS[:2]})
    first = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[(BOS, other.bos_token_id)]
    )
    other.backend_tokenizer.post_processor = first
    other.chat_template = TEMPLATE
    assert other("a")["input_ids"][0] == other.bos_token_id
    return other


def metaspace(text):
    """Return a tokenizer that marks words by ``▁``, as SentencePiece does: a word decoded alone loses its space."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    bpe.decoder, letters = decoders.Metaspace(prepend_scheme="first"), "abcdefghijklmnopqrstuvwxyz?\n"
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>", "<|endoftext|>"], initial_alphabet=list(letters),
        show_progress=False,
    )  # fmt: skip
    bpe.train_from_iterator([text], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>", unk_token="<unk>")
