"""Runs ``python -m se_resnet.predict`` in this process and writes the seconds of each part as JSON.

    python timed_predict.py SECONDS.json --workdir=RUN --input=FOLDER --out=OUT

:mod:`benchmarks.prediction` starts it in the folder of a checkout, whose modules it imports. The
seconds of a part exclude the parts inside it. Work in other threads is counted separately. A part
that the checkout lacks takes no time.
"""

from __future__ import annotations

import concurrent.futures
import functools
import importlib
import json
import os
import runpy
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

STARTED = "TIMED_PREDICT_STARTED"  # monotonic seconds at which the process was started
START, WAITING, ELSE = "start and imports", "waiting for threads", "else"
# The functions of each part, as module:name or module:class.name.
PARTS = {
    "checkpoint": ["se_resnet.predict.folder:load_best"],
    "read": ["se_resnet.images.image_location:read_file"],
    "decode": ["se_resnet.predict.folder:decode_image", "se_resnet.predict.ahead:decode_image"],
    "resize": ["se_resnet.predict.views:WholeImages.prepare"],
    "digests": ["se_resnet.predict.folder:digest", "se_resnet.predict.ahead:digest"],
    "network": ["se_resnet.models.classifier:Forward._outputs"],
    "input gate": ["se_resnet.runs.workdir:Run.unlike_training"],
    "Grad-CAM": ["se_resnet.explain:grad_cam", "se_resnet.explain:grad_cam_of_maps"],
    "overlays: colours": ["se_resnet.explain:overlay", "se_resnet.explain:beside"],
    "overlays: PNG": ["cv2:imencode"],
    "contact sheet": ["se_resnet.predict.folder:write_sheet"],
    "tables": ["se_resnet.predict.folder:write_table", "se_resnet.predict.folder:write_json"],
}


class Stopwatch:
    """Measures the seconds of each part, in the main thread and in the others."""

    def __init__(self) -> None:
        self.main: defaultdict[str, float] = defaultdict(float)
        self.others: defaultdict[str, float] = defaultdict(float)
        self.calls: defaultdict[str, int] = defaultdict(int)
        self._lock, self._local = threading.Lock(), threading.local()

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function with a stopwatch that adds each call to its part."""

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            outer, self._local.inside = getattr(self._local, "inside", 0.0), 0.0
            start = time.monotonic()
            try:
                return function(*arguments, **named)
            finally:
                whole = time.monotonic() - start
                in_main = threading.current_thread() is threading.main_thread()
                with self._lock:
                    (self.main if in_main else self.others)[part] += whole - self._local.inside
                    self.calls[part] += 1
                self._local.inside = outer + whole

        return call

    def replace(self, part: str, name: str) -> None:
        """Times the function of this name, if there is one."""
        module, path = name.split(":")
        *owners, attribute = path.split(".")
        try:
            owner = functools.reduce(getattr, owners, importlib.import_module(module))
            setattr(owner, attribute, self.timed(part, getattr(owner, attribute)))
        except (AttributeError, ModuleNotFoundError):
            return


def main() -> None:
    started, target = float(os.environ[STARTED]), sys.argv[1]
    sys.argv = ["predict", *sys.argv[2:]]
    watch = Stopwatch()
    for part, names in PARTS.items():
        for name in names:
            watch.replace(part, name)
    future = concurrent.futures.Future
    setattr(future, "result", watch.timed(WAITING, future.result))  # noqa: B010
    folder = importlib.import_module("se_resnet.predict.folder")
    predict_folder = folder.predict_folder

    @functools.wraps(predict_folder)
    def call(*arguments: Any, **named: Any) -> Any:
        begin = time.monotonic()
        result = predict_folder(*arguments, **named)
        end = time.monotonic()
        watch.main[ELSE] = end - begin - sum(watch.main.values())
        watch.main[START] = begin - started
        parts = {"main": watch.main, "others": watch.others, "calls": watch.calls}
        with open(target, "w") as file:
            json.dump(parts | {"total": end - started}, file)
        return result

    folder.predict_folder = call
    runpy.run_module("se_resnet.predict", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())  # the checkout, not the folder of this file
    main()
