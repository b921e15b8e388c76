"""How fast and how good, beside others: `python -m benchmarks.mnist`, `python -m benchmarks.throughput`."""
