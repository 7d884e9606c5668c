"""What Pomona does to every architecture that it is judged by: `python -m benchmarks.coverage`."""
