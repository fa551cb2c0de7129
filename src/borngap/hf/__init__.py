"""Everything that imports transformers and peft."""
