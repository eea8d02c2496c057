"""What a classifier looked at: class activation maps, occlusion, and the gates of its attention.

Every function takes RGB pixels as a :class:`se_resnet.models.classifier.Classifier` does, runs the
network in evaluation mode and changes nothing. The single logit speaks for both classes: what
raises it is evidence for malignant, what lowers it is evidence for benign.

``class_activation``: Grad-CAM and Grad-CAM++. ``perturbation``: occlusion, insertion and deletion.
``attention_gates``: gate values. ``heat_map``: a map over its image. ``target``: the class that is
explained.

A new explanation gets a module and a name below. Imports :mod:`se_resnet.models` and
:mod:`se_resnet.metrics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from se_resnet.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from se_resnet.explain.attention_gates import gate_summary, gates
    from se_resnet.explain.class_activation import grad_cam, grad_cam_plus_plus
    from se_resnet.explain.heat_map import overlay
    from se_resnet.explain.perturbation import insertion_deletion, occlusion

__all__ = [
    "gate_summary",
    "gates",
    "grad_cam",
    "grad_cam_plus_plus",
    "insertion_deletion",
    "occlusion",
    "overlay",
]
__getattr__ = lazy_names(
    __name__,
    {
        "gate_summary": "se_resnet.explain.attention_gates",
        "gates": "se_resnet.explain.attention_gates",
        "grad_cam": "se_resnet.explain.class_activation",
        "grad_cam_plus_plus": "se_resnet.explain.class_activation",
        "insertion_deletion": "se_resnet.explain.perturbation",
        "occlusion": "se_resnet.explain.perturbation",
        "overlay": "se_resnet.explain.heat_map",
    },
)
