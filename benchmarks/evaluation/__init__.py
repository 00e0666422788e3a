"""What the numbers of an evaluation see: run `python -m benchmarks.evaluation.orderings`."""
