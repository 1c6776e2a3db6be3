"""How a target starts, one method a file."""
