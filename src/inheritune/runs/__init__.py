"""A run: the algorithm, what it decides by, and its hands."""
