"""Every method on the same batches: cells, their budgets, one table."""
