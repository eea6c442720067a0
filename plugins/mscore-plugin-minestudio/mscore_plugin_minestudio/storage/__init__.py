"""Datasets on disk: their layout, payloads and files, read as data."""
