"""Statistics of losses: gaps with intervals, forecasts, and what a run spent. Needs numpy only."""
