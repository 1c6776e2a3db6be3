"""Recipes: YAML files that describe a run, validated completely before anything is loaded."""
