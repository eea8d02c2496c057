"""Where the figures of the README are from: each module is a command ``python -m benchmarks.X``."""
