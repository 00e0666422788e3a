"""What guidance does to digits at scales 1 to 8: `python -m benchmarks.guided`; docs/guidance.md has the tables."""
