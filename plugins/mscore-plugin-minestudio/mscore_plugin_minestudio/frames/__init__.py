"""Frames: chunks of video, JPEG or raw pictures, to and from arrays."""
