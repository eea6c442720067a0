"""Storing the images of a dataset anew."""
