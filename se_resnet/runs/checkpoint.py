"""Checkpoints of a run: the latest states to resume from, the best weights to evaluate.

``latest`` holds the whole training state, the two newest of them, so that one is left if the other
is damaged. ``best`` holds the weights of the best validation so far, and those that were the best
when the older state of ``latest`` was saved: a run that goes on from there goes on with them. A
checkpoint is the folder ``STEP`` with Orbax' ``tree`` and the ``facts.json`` that seals it; one
that is being written or removed is called ``.STEP``.
"""

from __future__ import annotations

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
from se_resnet.runs.integrity import facts_of, seal
from se_resnet.runtime.files import read_json, reason, report_full_disk
from se_resnet.runtime.processes import barrier, is_primary
from se_resnet.runtime.schema import misfit

_KEPT = 2
# What Orbax reads as JSON, without looking at size or depth.
_ORBAX_JSON = ("_METADATA", "_CHECKPOINT_METADATA", "_sharding", "array_metadatas/*")
_PLAIN = (
    "move the run, or choose a --workdir, to a path of plain names: without [ ] \\ and :, in the "
    "encoding of this locale"
)


class Restored(NamedTuple):
    """A state to go on from.

    Attributes:
        tree: the state.
        facts: what was saved beside it.
        warnings: a sentence for each newer checkpoint that is damaged and was set aside.
    """

    tree: Any
    facts: dict[str, Any]
    warnings: list[str]


class Checkpoints:
    """Reads and writes the checkpoints below one folder.

    Saving returns when the checkpoint is whole on disk, and an interrupted save leaves those before
    it in place. Every file is compared with its SHA-256 before it is read. Of several processes all
    save and restore together, and the first one names, moves and removes folders.

    Args:
        folder: usually ``W/checkpoints``, which all processes see; made when something is saved.
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
        """Saves ``{'params', 'batch_stats'}`` with the facts needed to rebuild the model.

        Raises:
            UserError: the disk is full; the checkpoints that were there are kept.
        """
        self._save("best", step, variables, facts)

    def restore_latest(self, like: Any, form: Mapping | None = None) -> Restored | None:
        """The latest whole state and its facts, laid out over devices as ``like``.

        Damaged checkpoints newer than it are moved to the folder ``damaged``, and best weights
        newer than it, of work that is done again, are removed.

        Args:
            like: a state of the same structure, shapes and shardings; its values are not read.
            form: of the facts, see :func:`se_resnet.runtime.schema.misfit`; with others the
                checkpoint is damaged.

        Returns:
            None where no state was saved.

        Raises:
            UserError: all that were saved are damaged, and nothing is moved; or the state has
                another structure or other shapes than ``like``.
        """
        steps, damaged, facts = self.steps("latest"), [], {}
        while steps:
            try:
                facts = self._facts("latest", steps[-1], form)
                break
            except ValueError as error:
                damaged.append((steps.pop(), str(error)))
        if damaged and not steps:
            raise UserError(f"{damaged[0][1]}, and no other one is left: {self._remedy}.")
        barrier()  # all processes have looked
        with _first_process() as first:
            if first:
                for step, _ in damaged:
                    self._set_aside(step)
                done = steps[-1] if steps else 0
                self._remove("best", [best for best in self.steps("best") if best > done])
        aside = f"it was moved to {self.folder / 'damaged'}, and the one before it is used"
        warnings = [f"{told}: {aside}." for _, told in damaged]
        return Restored(self._tree("latest", steps[-1], like), facts, warnings) if steps else None

    def best_facts(self, form: Mapping | None = None) -> dict[str, Any]:
        """The facts saved with the best weights, all of which are looked through.

        Args:
            form: of the facts, see :func:`se_resnet.runtime.schema.misfit`.

        Raises:
            UserError: the run has no such checkpoint, or it is damaged.
        """
        steps = self.steps("best")
        if not steps:
            raise UserError(
                f"{self.folder} holds no checkpoint to evaluate: run train.py with this --workdir "
                "to the end of an epoch; if it was, delete that folder first."
            )
        try:
            return self._facts("best", steps[-1], form)
        except ValueError as error:
            raise UserError(f"{error}: {self._remedy}.") from error

    def restore_best(self, like: Any) -> Any:
        """The best weights ``{'params', 'batch_stats'}``, laid out as ``like``.

        Raises:
            UserError: as :meth:`best_facts`; or the weights have other names or shapes than
                ``like``.
        """
        self.best_facts()
        return self._tree("best", self.steps("best")[-1], like)

    def rehearse(self) -> None:
        """Saves and restores a few numbers, before hours of work depend on it.

        Raises:
            UserError: they cannot be saved, or what was saved is not found again.
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
        """The steps that ``'latest'`` or ``'best'`` holds a checkpoint of, in order."""
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
                with _quiet(), _orbax() as orbax:
                    orbax.save(temporary / "tree", args=ocp.args.StandardSave(tree))
                with _first_process() as first:
                    if first:
                        seal(temporary, facts)
                        self._remove(kind, {step} & {*self.steps(kind)})
                        temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)  # room for what else is to be written
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
            with _quiet(), _orbax() as orbax:
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
            # Hidden first, so that nobody takes a half removed one for a damaged one.
            hidden = self._path(kind, step).rename(_hidden(self._path(kind, step)))
            shutil.rmtree(hidden)

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
    """Shapes by path, ``params/head/bias``, whatever kinds of containers hold the arrays."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in leaves
        if hasattr(leaf, "shape")
    }


def _compare(stored: Mapping[str, tuple], wanted: Mapping[str, tuple]) -> None:
    """Refuses stored arrays that are not those of the network, before any is read.

    Raises:
        ValueError: a name or a shape differs.
    """
    for path in sorted({*stored, *wanted}):
        found, needed = stored.get(path, "nothing"), wanted.get(path, "nothing")
        if found != needed:
            raise ValueError(f"it holds {found} for {path}, the network needs {needed}")


def _orbax() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.StandardCheckpointHandler())


@contextmanager
def _first_process() -> Iterator[bool]:
    """Whether this process is the first; the others wait for its block."""
    yield is_primary()
    barrier()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Orbax from logging what is raised here anyway."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)
