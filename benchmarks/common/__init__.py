"""What the benchmarks share: how they measure, and how they report."""
