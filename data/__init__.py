"""Everything that knows files and BreaKHis: names, validation, preparation, splits, balancing.

It imports no model. Only :mod:`data.breakhis` and :mod:`data.pipeline` import TensorFlow.
"""

import os

# TensorFlow reads these when it is first imported. It only reads records and feeds batches here, so
# its start-up messages would tell the user nothing; the one about oneDNN ignores the log level.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
