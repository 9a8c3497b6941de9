"""Scripts of this repository, as far as they need no host."""
