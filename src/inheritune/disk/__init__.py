"""Atomic and durable writes of files and folders; only what this program made is ever removed."""
