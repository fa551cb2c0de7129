"""Words: their inflected forms, a thesaurus, and how two of them are related; no model, no tokenizer."""
