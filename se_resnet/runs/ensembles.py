"""Several networks of one run as one model: the decision that they share, and their data."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import Any

from se_resnet.metrics.decision import Decision, decide
from se_resnet.metrics.predictions import concatenate
from se_resnet.runs.run_files import EXCLUDED, ROLES, VAL
from se_resnet.runs.run_folder import RunFolder
from se_resnet.runtime.files import write_json

_PRECEDENCE = (*ROLES, EXCLUDED)  # of the roles that an image has for several networks


def decide_together(run: RunFolder, target: str) -> Decision:
    """Chooses threshold and temperature for new patients, and writes ``decision.json``.

    The validation images of all networks choose together, each predicted by the network that was
    not trained on it (the left-out rule). The mean of the networks cannot choose, because an image
    that one network validates trains the others.

    Args:
        run: the folder of several networks, whose validation images have been evaluated.
        target: see :func:`se_resnet.metrics.decision.parse_target`.

    Raises:
        UserError: an evaluation is missing or broken.
    """
    validated = [network.evaluation(VAL).predictions() for network in run.networks()]
    decision = decide(concatenate(validated), target)
    write_json(run.decision_path, dataclasses.asdict(decision))
    return decision


def joined_data_facts(run: RunFolder) -> dict[str, Any]:
    """Returns the content of ``data.json`` for a run of one network or of several.

    Of several networks ``audit`` has the largest count of a network, ``split`` the rows of all
    networks with the place of each in ``role``, and ``seen_digests`` and ``magnifications`` are
    those of any network. The other fields are the same for all.

    Raises:
        UserError: a file is missing or broken.
    """
    networks = run.networks()
    facts = [network.data_facts() for network in networks]
    if len(networks) == 1:
        return facts[0]
    counted = set.intersection(*(set(part["audit"]) for part in facts))
    return {
        **facts[0],
        "audit": {
            name: max(part["audit"][name] for part in facts)
            for name in facts[0]["audit"]
            if name in counted
        },
        "split": [
            {**row, "role": f"{_title(run, network)}: {row['role']}"}
            for network, part in zip(networks, facts, strict=True)
            for row in part["split"]
        ],
        "seen_digests": _union(facts, "seen_digests"),
        "magnifications": _union(facts, "magnifications"),
    }


def joined_split(run: RunFolder, columns: Sequence[str]) -> list[dict[str, str]]:
    """Returns the rows of ``split.csv`` for a run of one network or of several.

    An image that any of several networks was trained on has the role ``train``, an image that any
    validated on has ``val``. Only an image that none of them has seen has the role ``test``.

    Args:
        run: its folder.
        columns: see :func:`se_resnet.runs.run_files.read_split`.

    Raises:
        UserError: a file is missing or broken.
    """
    first, *others = [network.split(columns) for network in run.networks()]
    joined = {row["file"]: dict(row) for row in first}
    for row in itertools.chain.from_iterable(others):
        known = joined.setdefault(row["file"], dict(row))
        known["role"] = min(known["role"], row["role"], key=_PRECEDENCE.index)
    return list(joined.values())


def _title(run: RunFolder, network: RunFolder) -> str:
    """Returns the place of a network in its run, for example ``fold 0, member 1``."""
    parts = network.path.relative_to(run.path).parts
    return ", ".join(re.sub(r"(?=\d+$)", " ", part, count=1) for part in parts)


def _union(facts: Sequence[dict[str, Any]], name: str) -> list[Any]:
    return sorted(set().union(*(part.get(name, ()) for part in facts)))
