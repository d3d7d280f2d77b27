"""One hook a file."""
