"""Making datasets of recordings and of other datasets."""
