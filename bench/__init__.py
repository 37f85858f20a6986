"""Measurements of speed, memory and understanding; what they write stays in `bench/results/`."""
