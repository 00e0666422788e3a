"""What the speed of training, and the time to quality, are measured with. See docs/training-benchmark.md."""
