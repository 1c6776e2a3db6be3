"""Every method on the same batches and documents, from one recipe: cells, their budgets, and what they say together."""
