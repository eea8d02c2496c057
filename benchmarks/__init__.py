"""The measurements behind the README. Each module is a command ``python -m benchmarks.X``."""
