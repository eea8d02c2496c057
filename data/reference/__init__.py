"""Makes the reference of a run's training images, which the input gate compares with.

``make``: computes and writes ``input_reference.safetensors`` of a run with a single network.
``train.py`` calls it after the training; ``python -m data.reference`` adds the file to a finished
run. The reference itself is :class:`se_resnet.input_gate.gate.InputGate`.
"""
