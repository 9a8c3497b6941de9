"""Real programs under known load, for the demo, the tests and the benchmarks."""
