"""What numbers mean: gaps with intervals, and what they cost. Numpy only."""
