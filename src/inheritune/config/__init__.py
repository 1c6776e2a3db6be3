"""A run as data: recipes are YAML, checked whole before anything is loaded."""
