"""What a dataset knows of a frame beside its picture."""
