"""The measurements behind the README. Each module is a command ``python -m benchmarks.X``."""

import se_resnet  # noqa: F401  first: lets Ctrl-C end the imports quietly
