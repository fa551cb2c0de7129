"""A loss that looks at the rival, inside somebody else's training: its places in batches, and how it joins hosts."""
