"""Which of the reference's blocks a target inherits, one criterion a file."""
