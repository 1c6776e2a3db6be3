"""What a run, a cell or a model folder holds: each file's name and its model, written once and read back."""
