"""Our ResNet50 v1.5, with and without SE, computes what torch computes with the same tensors.

Theirs loaded by us, and ours, converted by :mod:`se_resnet.weights.timm_format`, loaded by them.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from se_resnet.models.resnet import create_model
from se_resnet.weights import layout
from se_resnet.weights.timm_format import to_timm
from tests.helpers import parity

pytestmark = [pytest.mark.parity, pytest.mark.full_optimisation]

CLASSES = 7
SIZES = [(224, 224), (129, 97)]


def se_resnet50(torch):
    """SE-ResNet50 v1.5 after Hu et al. and torchvision, with the parameter names that timm has."""
    nn = torch.nn

    class Gate(nn.Module):
        def __init__(self, channels, reduced):
            super().__init__()
            self.fc1 = nn.Conv2d(channels, reduced, 1)
            self.fc2 = nn.Conv2d(reduced, channels, 1)

        def forward(self, x):
            squeezed = x.mean((2, 3), keepdim=True)
            return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(squeezed))))

    class Block(nn.Module):
        def __init__(self, inputs, width, stride):
            super().__init__()
            outputs = 4 * width
            self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outputs)
            self.se = Gate(outputs, outputs // 16)
            self.downsample = None
            if stride > 1 or inputs != outputs:
                self.downsample = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
                )

        def forward(self, x):
            shortcut = x if self.downsample is None else self.downsample(x)
            x = torch.relu(self.bn1(self.conv1(x)))
            x = torch.relu(self.bn2(self.conv2(x)))
            return torch.relu(self.se(self.bn3(self.conv3(x))) + shortcut)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
            inputs = 64
            for stage, blocks in enumerate((3, 4, 6, 3)):
                layers = []
                for block in range(blocks):
                    width = 64 * 2**stage
                    layers.append(Block(inputs, width, 2 if stage and not block else 1))
                    inputs = 4 * width
                setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
            self.fc = nn.Linear(inputs, CLASSES)

        def forward(self, x):
            stages = [self.maxpool(torch.relu(self.bn1(self.conv1(x))))]
            for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
                stages.append(layer(stages[-1]))
            return self.fc(stages[-1].mean((2, 3))), stages

    return Network()


def transformers_resnet50(torch, variant):
    transformers = pytest.importorskip("transformers", reason="needs the extra 'parity'")
    network = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            num_labels=CLASSES,
            output_hidden_states=True,
            downsample_in_bottleneck=variant == "v1",
        )
    )

    def forward(x):
        result = network(x)
        return result.logits, result.hidden_states

    return network, forward


def randomise(torch, network, forward, images):
    """Random parameters, and the statistics of the images.

    As in trained networks a branch adds less than the shortcut brings. Where it adds as much or
    more, random blocks amplify rounding until torch in float32 no longer equals torch in float64.
    """
    rng = np.random.default_rng(0)
    for name, tensor in network.named_parameters():
        shape = tuple(tensor.shape)
        if name.endswith("bias"):
            value = rng.normal(0, 0.2, shape)
        elif len(shape) > 1:
            value = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif name.endswith(("bn3.weight", "layer.2.normalization.weight")):
            value = rng.uniform(0.1, 0.5, shape)
        else:
            value = rng.uniform(0.5, 1.5, shape)
        tensor.copy_(torch.tensor(value, dtype=torch.float32))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()
    forward(images)
    network.eval()


@pytest.mark.parametrize(
    "implementation, variant",
    [("timm", "v1.5"), ("transformers", "v1.5"), ("transformers", "v1")],
)
def test_stages_and_logits_equal_torch(tmp_path, implementation, variant):
    """Transformers write their own ``config.json`` beside the tensors, which says the variant."""
    torch = pytest.importorskip("torch", reason="needs the extra 'parity'")
    from safetensors.torch import save_file

    if implementation == "timm":
        network = forward = se_resnet50(torch)
    else:
        network, forward = transformers_resnet50(torch, variant)
        network.config.save_pretrained(tmp_path)
    inputs = [
        np.random.default_rng(1).normal(0, 1, (2, *size, 3)).astype(np.float32) for size in SIZES
    ]
    as_torch = [torch.tensor(x.transpose(0, 3, 1, 2)).contiguous() for x in inputs]
    with torch.no_grad():
        randomise(torch, network, forward, as_torch[0])
        path = tmp_path / "model.safetensors"
        save_file(network.state_dict(), path)
        for images, x in zip(inputs, as_torch, strict=True):
            logits, stages = forward(x)
            expected = {
                name: stage.numpy().transpose(0, 2, 3, 1)
                for name, stage in zip(parity.STAGES, stages, strict=True)
            }
            parity.check(path, images, {**expected, "logits": logits.numpy()})


@pytest.mark.parametrize("gate", ["identity", "sigmoid"])
def test_torch_computes_the_logits_of_our_converted_network(gate):
    """All of timm's parameters and no others are given, and the logits are ours."""
    torch = pytest.importorskip("torch", reason="needs the extra 'parity'")
    images = np.random.default_rng(1).normal(0, 1, (2, *SIZES[1], 3)).astype(np.float32)
    as_torch = torch.tensor(images.transpose(0, 3, 1, 2)).contiguous()
    network, other = se_resnet50(torch), se_resnet50(torch)
    with torch.no_grad():
        randomise(torch, other, other, as_torch)
        tensors = {name: value.numpy() for name, value in other.state_dict().items()}
        variables = unflatten_dict(layout.recognise(tensors, "torch").variables, sep="/")
        model = create_model(
            attention_options={"gate": gate}, variant="v1.5", bn_epsilon=1e-5, num_outputs=CLASSES
        )
        converted = {k: torch.tensor(v) for k, v in to_timm(model, variables).items()}
        network.load_state_dict(converted, strict=True)
        theirs = network.eval()(as_torch)[0].numpy()
        # The gates of the two kinds differ, and so must the networks that are compared.
        assert np.allclose(theirs, other(as_torch)[0].numpy()) == (gate == "sigmoid")
    ours = np.asarray(jax.jit(lambda x: model.apply(variables, x, train=False))(images))
    assert theirs.std() > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.std())
