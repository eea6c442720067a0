"""Trainers: the base that others derive from, PPO, and what starts them."""
