"""The commands that a user may want after a training."""

from __future__ import annotations

import shlex

from se_resnet.runs.evaluations import REPORT
from se_resnet.runs.run_files import last_evaluation
from se_resnet.runs.run_folder import RunFolder


def next_steps(run: RunFolder) -> str:
    """Returns lines with the report to open and the commands to run next, for a finished run.

    Raises:
        UserError: the configuration of the run is missing or broken.
    """
    config = run.config()
    module = config["model"].get("attention", "")
    flags = [f"--workdir={run.path}"]
    if ":" in module:  # a module of the user is imported only if the command names it
        flags.append(f"--attention={module}")
    given = shlex.join(flags)
    report = run.evaluation(last_evaluation(config)).path / REPORT
    commands = [
        f"python -m se_resnet.predict {given} --input=IMAGES --out=predictions",
        f"python -m se_resnet.app {given}",
        f"python -m se_resnet.runs {shlex.quote(str(run.path.parent))}",
    ]
    return "\n".join(
        [
            f"{'open':<10}{report}",
            *(f"{'' if number else 'run next':<10}{line}" for number, line in enumerate(commands)),
        ]
    )
