"""A run: the algorithm, the policy that decides for it, and what carries it out."""
