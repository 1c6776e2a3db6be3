"""Every file that is written, as data."""
