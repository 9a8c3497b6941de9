"""Scripts of the repository: set-up, demo, benchmarks, workloads. Not installed."""
