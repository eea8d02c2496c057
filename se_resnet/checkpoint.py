"""Checkpoints of a run: the latest state to resume from, the best weights to evaluate.

``latest`` holds the whole training state, ``best`` the weights of the best validation so far. They
are two folders because they are two promises: Orbax keeps the newest of one and the newest of the
other, and the newest of ``best`` is the best by construction.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from se_resnet.errors import UserError


class Checkpoints:
    """Reads and writes the checkpoints below one folder.

    Saving returns when the checkpoint is whole on disk; Orbax writes under a temporary name and
    renames, so an interrupted save leaves the previous checkpoint in place.

    Args:
        folder: usually ``W/checkpoints``; made when something is saved.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def save_latest(self, step: int, state: Any, facts: Mapping) -> None:
        """Saves the training state after ``step`` steps, with JSON-able facts beside it."""
        self._save("latest", step, state, facts)

    def save_best(self, step: int, variables: Mapping, facts: Mapping) -> None:
        """Saves ``{'params', 'batch_stats'}`` with the facts needed to rebuild the model."""
        self._save("best", step, variables, facts)

    def restore_latest(self, like: Any) -> tuple[Any, dict] | None:
        """The latest state and facts, laid out over devices as ``like``; None without a checkpoint.

        Args:
            like: a state of the same structure, shapes and shardings; its values are not read.
        """
        return self._restore("latest", like)

    def best_facts(self) -> dict:
        """The facts saved with the best weights.

        Raises:
            UserError: the run has no such checkpoint.
        """
        with self._open("best") as manager:
            step = manager.latest_step()
            if step is None:
                raise UserError(
                    f"{self.folder} holds no checkpoint to evaluate: run train.py with this "
                    "--workdir to the end of an epoch; if it was, delete that folder first."
                )
            try:
                arguments = ocp.args.Composite(facts=ocp.args.JsonRestore())
                return manager.restore(step, args=arguments)["facts"]
            except (ValueError, KeyError, OSError) as error:
                raise self._damaged("best", step, error) from error

    def restore_best(self, like: Any) -> Any:
        """The best weights ``{'params', 'batch_stats'}``, laid out as ``like``."""
        restored = self._restore("best", like)
        assert restored is not None, "best_facts() finds the checkpoint first"
        return restored[0]

    def _open(self, kind: str) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        return ocp.CheckpointManager((self.folder / kind).absolute(), options=options)

    def _save(self, kind: str, step: int, tree: Any, facts: Mapping) -> None:
        with self._open(kind) as manager:
            if step in manager.all_steps():
                return  # an earlier start got here before it was killed, and computed the same
            manager.save(
                step,
                args=ocp.args.Composite(
                    tree=ocp.args.StandardSave(tree), facts=ocp.args.JsonSave(dict(facts))
                ),
                force=True,
            )

    def _restore(self, kind: str, like: Any) -> tuple[Any, dict] | None:
        with self._open(kind) as manager:
            step = manager.latest_step()
            if step is None:
                return None
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
            try:
                restored = manager.restore(
                    step,
                    args=ocp.args.Composite(
                        tree=ocp.args.StandardRestore(abstract), facts=ocp.args.JsonRestore()
                    ),
                )
            except (ValueError, KeyError, OSError) as error:
                raise self._damaged(kind, step, error) from error
            return restored["tree"], restored["facts"]

    def _damaged(self, kind: str, step: int, error: Exception) -> UserError:
        return UserError(
            f"the checkpoint {self.folder / kind / str(step)} cannot be read "
            f"({' '.join(str(error).split())[:200]}): delete {self.folder} and run train.py again."
        )
