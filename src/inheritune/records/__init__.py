"""The files that a run, a cell or a model folder holds: each one's name and its pydantic model, defined once."""
