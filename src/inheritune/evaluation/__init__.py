"""Losses on one fixed set of validation documents."""
