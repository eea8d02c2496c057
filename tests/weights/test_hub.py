from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys

import huggingface_hub
import numpy as np
import pytest
import safetensors.numpy

from se_resnet.errors import UserError
from se_resnet.weights import hub, pretrained
from se_resnet.weights.licences import Licence
from tests.helpers import ROOT, checkpoints

PINNED, UNPINNED = "timm/seresnet50.a2_in1k", "timm/seresnet50.ra2_in1k"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A Hub that has the same files for every repository; gives the weights and the calls."""
    monkeypatch.setattr(checkpoints, "WIDTH", 64)
    tensors, _ = checkpoints.make("torch", reduction=16)
    config = {
        "architecture": "seresnet50",
        "num_classes": checkpoints.CLASSES,
        "model_args": {"layers": list(checkpoints.STAGE_SIZES)},
        "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "interpolation": "bilinear"},
    }
    content = safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in tensors.items()})
    calls = []
    offline: list[bool] = []

    def download(name, file, *, revision):
        calls.append((name, file, revision))
        if file == "config.json" and offline:
            raise huggingface_hub.errors.LocalEntryNotFoundError("offline")
        path = tmp_path / "snapshots" / ("0" * 40) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        is_config = file == "config.json"
        path.write_bytes(json.dumps(config).encode() if is_config else content)
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return content, calls, offline


def test_pins_are_whole_commits_and_checksums():
    for name, known in hub.KNOWN.items():
        assert re.fullmatch(r"[\w-]+/[\w.-]+", name)
        assert known.revision is None or re.fullmatch(r"[0-9a-f]{40}", known.revision)
        # A checksum belongs to one commit; a commit may be known without its checksum.
        assert known.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", known.sha256)
        assert known.sha256 is None or known.revision is not None
        assert known.licence.url.startswith("https://") or not known.licence.non_commercial
        assert known.pixels_url.startswith("https://") == (known.pixels is not None)


def test_a_pinned_file_is_fetched_by_its_commit_and_checked(published, monkeypatch):
    content, calls, _ = published
    with pytest.raises(UserError, match=r"a2_in1k.*is not the file that was published"):
        pretrained.load(PINNED)
    assert calls == [
        (PINNED, "model.safetensors", hub.KNOWN[PINNED].revision),
        (PINNED, "config.json", "0" * 40),  # of the commit that the weights came from
    ]
    pin = hub.Repository(Licence("MIT"), "bicubic", "1" * 40, hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(hub.KNOWN, PINNED, pin)
    assert pretrained.load(PINNED).attention == "se"


def test_what_is_not_pinned_is_recorded(published):
    content, calls, _ = published
    facts = pretrained.load(UNPINNED).facts()
    assert calls[0][2] == "main"
    assert facts["sha256"] == hashlib.sha256(content).hexdigest()
    assert facts["revision"] == "0" * 40
    assert facts["source"].endswith(UNPINNED)
    assert facts["licence"] == "Apache-2.0" and facts["interpolation"] == "bilinear"
    assert facts["preprocessing"]["mean"] == [0.5, 0.5, 0.5] and facts["assumed"] == []
    assert facts["attention_options"] == {"reduction": 16, "gate": "sigmoid"}
    assert facts["variant"] == "v1.5" and facts["preprocessing"]["channel_order"] == "RGB"
    json.dumps(facts)


def test_a_cache_without_configuration_serves_with_assumptions(published):
    published[2].append(True)
    weights = pretrained.load(UNPINNED)
    assert weights.interpolation == "bicubic" and len(weights.assumed) > 3
    assert weights.remarks()[0].startswith("ASSUMED")


def test_offline_the_command_says_what_to_fetch(tmp_path):
    """With the real library; on a machine without its cache."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    code = f"from se_resnet.weights import pretrained; pretrained.load({PINNED!r})"
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    message = result.stderr.splitlines()[-1]
    assert message.startswith(
        "se_resnet.weights.formats.RefusedWeightsError: config.model.pretrained = "
    )
    revision = hub.KNOWN[PINNED].revision
    assert f"https://huggingface.co/{PINNED}/resolve/{revision}/model.safetensors" in message
    assert "give the path of that file instead" in message
