"""Environments side by side: in this process, or each in a supervised process of its own."""
