"""What a decoder is: found by structure, described by data; opens no file."""
