"""Explanations of predictions: class activation maps, occlusion and attention gates.

Every function takes RGB pixels, as :class:`se_resnet.models.classifier.Classifier` does. It runs
the network in evaluation mode and changes no state. The network has a single logit for both
classes: a higher logit is evidence for malignant, a lower logit is evidence for benign. An ensemble
is explained as one network, whose logit is the mean of those of its members.

``class_activation``: Grad-CAM and Grad-CAM++. ``perturbation``: occlusion, insertion and deletion.
``attention_gates``: gate values of one network. ``heat_map``: a heat map over an image. ``target``:
the class to explain. ``members``: the networks to explain.

A new explanation needs a module and a name below. Imports :mod:`se_resnet.models` and
:mod:`se_resnet.metrics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from se_resnet.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from se_resnet.explain.attention_gates import gate_summary, gates
    from se_resnet.explain.class_activation import (
        grad_cam,
        grad_cam_of_maps,
        grad_cam_plus_plus,
    )
    from se_resnet.explain.heat_map import beside, overlay, spread
    from se_resnet.explain.perturbation import insertion_deletion, occlusion

__all__ = [
    "beside",
    "gate_summary",
    "gates",
    "grad_cam",
    "grad_cam_of_maps",
    "grad_cam_plus_plus",
    "insertion_deletion",
    "occlusion",
    "overlay",
    "spread",
]
__getattr__ = lazy_names(
    __name__,
    {
        "beside": "se_resnet.explain.heat_map",
        "gate_summary": "se_resnet.explain.attention_gates",
        "gates": "se_resnet.explain.attention_gates",
        "grad_cam": "se_resnet.explain.class_activation",
        "grad_cam_of_maps": "se_resnet.explain.class_activation",
        "grad_cam_plus_plus": "se_resnet.explain.class_activation",
        "insertion_deletion": "se_resnet.explain.perturbation",
        "occlusion": "se_resnet.explain.perturbation",
        "overlay": "se_resnet.explain.heat_map",
        "spread": "se_resnet.explain.heat_map",
    },
)
