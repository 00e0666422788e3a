"""Error against network evaluations, ours and the peers': see `python -m benchmarks.samplers --help`."""
