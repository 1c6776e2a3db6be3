"""`python -m inheritune`."""

from inheritune.cli import main

main()
