"""A decoder as a stack of blocks: where they stand, which go where, and the proof that it is right."""
