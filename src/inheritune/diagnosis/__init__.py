"""What each layer and head of a trained decoder does."""
