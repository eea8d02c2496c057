"""Checkpoints of a run: the latest states to resume from, the chosen weights to evaluate.

``latest`` holds the two newest training states, so that one remains if the other is damaged.
``best`` holds the weights to evaluate. By ``config.checkpoint.choose`` these are the weights with
the best validation score or, once the training has ended, those of the last epoch. ``best`` also
holds the weights that were chosen when the older state of ``latest`` was saved, because a run may
resume there. A checkpoint is the folder
``STEP`` with Orbax' ``tree`` and a ``facts.json`` with checksums. Its name is ``.STEP`` while it is
written and ``.STEP.removed`` while it is removed.
"""

from __future__ import annotations

import logging as standard_logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from se_resnet.errors import UserError
from se_resnet.runs.integrity import facts_of, seal, unverified_facts
from se_resnet.runtime.files import read_json, reason, report_full_disk
from se_resnet.runtime.processes import barrier, is_primary
from se_resnet.runtime.schema import misfit
from se_resnet.runtime.signals import postponed

_KEPT = 2
# Files that Orbax reads as JSON without limits of size or depth.
_ORBAX_JSON = ("_METADATA", "_CHECKPOINT_METADATA", "_sharding", "array_metadatas/*")
_PLAIN = (
    "move the run, or choose a --workdir, to a path of plain names: without [ ] \\ and :, in the "
    "encoding of this locale"
)


class Restored(NamedTuple):
    """A state to resume from.

    Attributes:
        tree: the state.
        facts: the values saved beside the state.
        warnings: a sentence for each newer checkpoint that is damaged and was set aside.
    """

    tree: Any
    facts: dict[str, Any]
    warnings: list[str]


class Checkpoints:
    """Reads and writes the checkpoints below one folder.

    Saving returns once the checkpoint is complete on disk. An interrupted save leaves the earlier
    checkpoints in place. Every file is compared with its SHA-256 before it is read. All processes
    save and restore together; process 0 names, moves and removes folders.

    Args:
        folder: usually ``W/checkpoints``, visible to all processes; created by the first save.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def save_latest(self, step: int, state: Any, facts: Mapping) -> None:
        """Saves the training state after ``step`` steps, with JSON-able facts beside it.

        Raises:
            UserError: the disk is full; the checkpoints that were there are kept.
        """
        self._save("latest", step, state, facts)
        with _first_process() as first:
            if first:
                steps = self.steps("latest")
                self._remove("latest", steps[:-_KEPT])
                older = [best for best in self.steps("best") if best <= steps[-_KEPT:][0]]
                self._remove("best", older[:-1])

    def save_best(self, step: int, variables: Mapping, facts: Mapping) -> None:
        """Saves the chosen ``{'params', 'batch_stats'}`` with the facts that rebuild the model.

        Raises:
            UserError: the disk is full; the checkpoints that were there are kept.
        """
        self._save("best", step, variables, facts)

    def restore_latest(self, like: Any, form: Mapping | None = None) -> Restored | None:
        """Returns the latest intact state and its facts, laid out over devices as ``like``.

        Newer checkpoints that are damaged are moved to the folder ``damaged``. Newer weights
        to evaluate are removed, because the run repeats those steps.

        Args:
            like: a state of the same structure, shapes and shardings; its values are not read.
            form: of the facts, see :func:`se_resnet.runtime.schema.misfit`; a checkpoint with
                other facts counts as damaged.

        Returns:
            None where no state was saved.

        Raises:
            UserError: all saved states are damaged, and nothing is moved; or the structure or the
                shapes of the state differ from ``like``.
        """
        steps, damaged, facts = self.steps("latest"), [], {}
        while steps:
            try:
                facts = self._facts("latest", steps[-1], form)
                break
            except ValueError as error:
                damaged.append((steps.pop(), str(error)))
        if damaged and not steps:
            raise UserError(f"{damaged[0][1]}, and no other checkpoint is left: {self._remedy}.")
        barrier()  # all processes have looked
        with _first_process() as first:
            if first:
                for step, _ in damaged:
                    self._set_aside(step)
                done = steps[-1] if steps else 0
                self._remove("best", [best for best in self.steps("best") if best > done])
        aside = f"it was moved to {self.folder / 'damaged'}, and the checkpoint before it is used"
        warnings = [f"{problem}: {aside}." for _, problem in damaged]
        return Restored(self._tree("latest", steps[-1], like), facts, warnings) if steps else None

    def latest_progress(self) -> dict[str, Any]:
        """Returns ``best`` and ``waited`` of early stopping, saved with the latest state.

        The checksums of the checkpoint are not compared, so that this takes no time. The result is
        empty if there is no checkpoint or its facts are broken.
        """
        steps = self.steps("latest")
        if not steps:
            return {}
        try:
            return unverified_facts(self._path("latest", steps[-1]))["early_stopping"]
        except (OSError, ValueError, KeyError):
            return {}

    def best_facts(self, form: Mapping | None = None) -> dict[str, Any]:
        """Returns the facts saved with the chosen weights, once all files are verified.

        Args:
            form: of the facts, see :func:`se_resnet.runtime.schema.misfit`.

        Raises:
            UserError: the run has no such checkpoint, or it is damaged.
        """
        steps = self.steps("best")
        if not steps:
            raise UserError(
                f"{self.folder} holds no checkpoint to evaluate: run train.py with this --workdir "
                "again, which resumes there; if the training has ended, delete that folder first."
            )
        try:
            return self._facts("best", steps[-1], form)
        except ValueError as error:
            raise UserError(f"{error}: {self._remedy}.") from error

    def restore_best(self, like: Any) -> Any:
        """Returns the chosen weights ``{'params', 'batch_stats'}``, laid out as ``like``.

        Raises:
            UserError: as :meth:`best_facts`; or the weights have other names or shapes.
        """
        self.best_facts()
        return self._tree("best", self.steps("best")[-1], like)

    def rehearse(self) -> None:
        """Saves and restores a few numbers, to find problems of the file system before training.

        Raises:
            UserError: the numbers cannot be saved, or cannot be read again.
        """
        twin = Checkpoints(self.folder / ".rehearsal")
        saved = {"numbers": np.arange(3)}
        try:
            if "\\" in str(self.folder):  # it would be written into another folder
                raise ValueError("a backslash divides folders on other systems")
            str(self.folder).encode()  # the libraries take UTF-8 only
            twin._save("latest", 0, saved, {})
            twin._facts("latest", 0, {})
            restored = twin._tree("latest", 0, saved)
            if not np.array_equal(restored["numbers"], saved["numbers"]):
                raise ValueError("other numbers were read than were written")
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"checkpoints that are saved in {self.folder} cannot be read again "
                f"({reason(error)}): {_PLAIN}."
            ) from error
        finally:
            with _first_process() as first:
                if first:
                    shutil.rmtree(twin.folder, ignore_errors=True)

    def steps(self, kind: str) -> list[int]:
        """Returns the steps of the checkpoints in ``'latest'`` or ``'best'``, in order."""
        names = [path.name for path in (self.folder / kind).glob("[0-9]*")]
        return sorted(int(name) for name in names if name.isdecimal())

    @property
    def _remedy(self) -> str:
        return f"restore it from a copy, or delete {self.folder} and run train.py again"

    def _path(self, kind: str, step: int) -> Path:
        return (self.folder / kind / str(step)).absolute()

    def _save(self, kind: str, step: int, tree: Any, facts: Mapping) -> None:
        path = self._path(kind, step)
        temporary = _hidden(path)
        # With Orbax' index, and room to spare.
        size = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + 2**20
        try:
            with report_full_disk(path, size):
                with _first_process() as first:
                    if first:
                        for left in path.parent.glob(".[0-9]*"):  # by processes that were killed
                            shutil.rmtree(left)
                        temporary.mkdir(parents=True)
                with _orbax() as orbax:
                    orbax.save(temporary / "tree", args=ocp.args.StandardSave(tree))
                with _first_process() as first:
                    if first:
                        seal(temporary, facts)
                        self._remove(kind, {step} & {*self.steps(kind)})
                        temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)  # frees space for other files
            raise

    def _facts(self, kind: str, step: int, form: Mapping | None) -> dict[str, Any]:
        path = self._path(kind, step)
        try:
            facts = facts_of(path)
            if problem := misfit(facts, form or {}):
                raise ValueError(f"facts.json: {problem}")
            for pattern in _ORBAX_JSON:
                for file in (path / "tree").glob(pattern):
                    read_json(file)
            return facts
        except (OSError, ValueError) as error:
            raise ValueError(f"the checkpoint {path} is damaged ({error})") from error

    def _tree(self, kind: str, step: int, like: Any) -> Any:
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        path = self._path(kind, step)
        try:
            with _orbax() as orbax:
                _compare(_shapes(orbax.metadata(path / "tree").item_metadata), _shapes(abstract))
                arguments = ocp.args.StandardRestore(abstract)
                return orbax.restore(path / "tree", args=arguments)
        except Exception as error:  # Orbax and TensorStore raise any kind
            remedy = self._remedy if _is_plain(str(path)) else _PLAIN
            raise UserError(
                f"the checkpoint {path} cannot be restored ({reason(error)}): {remedy}."
            ) from error

    def _remove(self, kind: str, steps: Iterable[int]) -> None:
        for step in steps:
            # Hidden first, so that a partly removed checkpoint is not taken for a damaged one.
            path = self._path(kind, step)
            shutil.rmtree(path.rename(path.with_name(f"{_hidden(path).name}.removed")))

    def _set_aside(self, step: int) -> None:
        aside = self.folder / "damaged" / f"latest_{step}"
        aside.parent.mkdir(exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        self._path("latest", step).rename(aside)


def _is_plain(path: str) -> bool:
    """Returns whether the libraries that read checkpoints take the path literally."""
    return path.isprintable() and not set(path) & set("[]{}\\:*?")


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}")


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Returns shapes by path, such as ``params/head/bias``, for any kind of container."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in leaves
        if hasattr(leaf, "shape")
    }


def _compare(stored: Mapping[str, tuple], wanted: Mapping[str, tuple]) -> None:
    """Refuses stored arrays that do not fit the network, before any array is read.

    Raises:
        ValueError: a name or a shape differs.
    """
    for path in sorted({*stored, *wanted}):
        found, needed = stored.get(path, "nothing"), wanted.get(path, "nothing")
        if found != needed:
            raise ValueError(f"it holds {found} for {path}, the network needs {needed}")


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.StandardCheckpointHandler())


@contextmanager
def _orbax() -> Iterator[ocp.Checkpointer]:
    """Opens Orbax without its logs; a signal is delivered once Orbax has closed.

    An exception in the middle would close its event loop, while its threads still write files. Each
    of them then prints a traceback.
    """
    with postponed(), _quiet(), _checkpointer() as orbax:
        yield orbax


@contextmanager
def _first_process() -> Iterator[bool]:
    """Yields true on process 0; the other processes wait for the end of its block."""
    yield is_primary()
    barrier()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax and its event loop from logging errors that are raised here anyway.

    When a disk is full, many files fail. Orbax raises the first error. The event loop reports each
    of the others when its task is collected, with a traceback. The raised error keeps these tasks
    alive, so that they are collected later, up to the end of the process.
    """
    before = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    except BaseException:
        standard_logging.getLogger("asyncio").addFilter(_is_no_second_error)
        raise
    finally:
        logging.set_verbosity(before)


def _is_no_second_error(record: standard_logging.LogRecord) -> bool:
    return "exception was never retrieved" not in record.getMessage()
