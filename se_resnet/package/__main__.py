"""Writes a run's chosen checkpoint as a model package, a folder to share or to push to the Hub.

  python -m se_resnet.package --workdir=runs/breakhis --out=package
  python -m se_resnet.package --workdir=runs/breakhis --out=package --push=ORGANISATION/NAME
  python -m se_resnet.package --workdir=runs/breakhis --out=package --naming=timm

Writes model.safetensors, config.json and README.md, a model card. The networks of an ensemble, a
cross-validation or repeats become one package, with member0.safetensors and so on. --naming=timm
writes a package that timm can load. This needs a network that timm has: ResNet v1.5, with or
without Squeeze-and-Excitation.
"""

from __future__ import annotations

from absl import flags

from se_resnet.runtime.cli import PATH, define_attention_flag, parse_flags, run_command

if __name__ == "__main__":  # before the imports that take seconds
    _WORKDIR = flags.DEFINE(PATH, "workdir", None, "Folder of the run.", required=True)
    _OUT = flags.DEFINE(PATH, "out", None, "Folder of the package.", required=True)
    _NAMING = flags.DEFINE_enum(
        "naming", "se_resnet", ("se_resnet", "timm"), "Library whose tensor names are used."
    )
    _LICENCE = flags.DEFINE_string(
        "licence",
        "",
        "SPDX identifier of the weights' licence; empty: Apache-2.0, or the licence of the initial "
        "weights where it allows only non-commercial use.",
    )
    _PUSH = flags.DEFINE_string(
        "push", None, "Repository on the Hugging Face Hub to push the package to."
    )
    _ATTENTION = define_attention_flag()
    parse_flags()

from se_resnet.package.save_load import save_pretrained
from se_resnet.predict.predictor import load_run
from se_resnet.weights import hub


def main() -> None:
    """Runs the command."""
    run = load_run(_WORKDIR.value, _ATTENTION.value)
    directory = save_pretrained(run, _OUT.value, naming=_NAMING.value, licence=_LICENCE.value)
    written = sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))
    print(f"written to {directory}: {', '.join(written)}")
    if _PUSH.value:
        print(f"pushed to {hub.push(directory, _PUSH.value)}")


if __name__ == "__main__":
    run_command(main)
