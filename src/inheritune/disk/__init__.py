"""A file or a folder stands whole or not at all, on the disk too, and only what this program made is ever removed."""
