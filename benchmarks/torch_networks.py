"""The Keras networks of `networks.py` as `torch.nn.Module`s with the same weights."""

import numpy as np
import torch
from torch.nn import functional as F


def translate(model):
    """A module that computes what the Keras model does, from images `[B, 1, 28, 28]`."""
    return Translated(model).eval()


class Translated(torch.nn.Module):
    """Layer by layer in the model's own order; images are channels-first here."""

    def __init__(self, model):
        super().__init__()
        self.steps, parts = [], []
        self.start, self.end = id(model.inputs[0]), id(model.outputs[0])
        for layer in model.layers:
            if type(layer).__name__ != "InputLayer":
                inputs = layer.input if isinstance(layer.input, list) else [layer.input]
                self.steps.append(([id(tensor) for tensor in inputs], id(layer.output)))
                parts.append(LAYERS[type(layer).__name__](layer))
        self.parts = torch.nn.ModuleList(parts)

    def forward(self, x):
        values = {self.start: x}
        for (inputs, output), part in zip(self.steps, self.parts):
            values[output] = part(*[values[i] for i in inputs])
        return values[self.end]


class Apply(torch.nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *tensors):
        return self.function(*tensors)


ACTIVATIONS = {
    "linear": torch.nn.Identity,
    "relu": torch.nn.ReLU,
    "gelu": torch.nn.GELU,
    "softmax": lambda: torch.nn.Softmax(-1),
}


def _parameter(array):
    return torch.nn.Parameter(torch.tensor(np.ascontiguousarray(array)), requires_grad=False)


def _dense(layer):
    kernel, bias = layer.get_weights()
    linear = torch.nn.Linear(*kernel.shape)
    linear.weight, linear.bias = _parameter(kernel.T), _parameter(bias)
    return torch.nn.Sequential(linear, ACTIVATIONS[layer.activation.__name__]())


def _convolution(layer):
    weights = layer.get_weights()
    depthwise = type(layer).__name__ == "DepthwiseConv2D"
    # [height, width, in, out] -> [out, in, height, width]; depthwise [height, width, in, 1]
    kernel = np.transpose(weights[0], (2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
    channels = layer.input.shape[-1]
    convolution = torch.nn.Conv2d(
        channels,
        len(kernel),
        kernel.shape[2:],
        stride=layer.strides,
        groups=channels if depthwise else 1,
        bias=len(weights) == 2,
    )
    convolution.weight = _parameter(kernel)
    if len(weights) == 2:
        convolution.bias = _parameter(weights[1])
    if layer.padding == "valid":
        return convolution
    pads = []  # of the last axis first, before and after; TensorFlow pads more after
    for axis in (1, 0):
        size, stride = layer.input.shape[1 + axis], layer.strides[axis]
        total = max((-(-size // stride) - 1) * stride + kernel.shape[2 + axis] - size, 0)
        pads += [total // 2, total - total // 2]
    if pads[0] == pads[1] and pads[2] == pads[3]:
        convolution.padding = (pads[2], pads[0])
        return convolution
    return torch.nn.Sequential(torch.nn.ZeroPad2d(pads), convolution)


def _batch_normalization(layer):
    gamma, beta, mean, variance = layer.get_weights()
    normalization = torch.nn.BatchNorm2d(len(gamma), layer.epsilon)
    normalization.weight, normalization.bias = _parameter(gamma), _parameter(beta)
    normalization.running_mean[:] = torch.tensor(mean)
    normalization.running_var[:] = torch.tensor(variance)
    return normalization


def _layer_normalization(layer):
    gamma, beta = layer.get_weights()
    normalization = torch.nn.LayerNorm(len(gamma), layer.epsilon)
    normalization.weight, normalization.bias = _parameter(gamma), _parameter(beta)
    return normalization


def _flatten(layer):
    if len(layer.input.shape) == 4:  # Keras flattens with the channels last
        return Apply(lambda x: x.permute(0, 2, 3, 1).flatten(1))
    return torch.nn.Flatten()


class Position(torch.nn.Module):
    """Adds a vector to each position."""

    def __init__(self, layer):
        super().__init__()
        self.positions = _parameter(layer.get_weights()[0])

    def forward(self, x):
        return x + self.positions


class Attention(torch.nn.Module):
    """Multi-head attention with torch's own fused attention in the middle."""

    def __init__(self, layer):
        super().__init__()
        weights = [_parameter(w) for w in layer.get_weights()]
        self.query, self.query_bias, self.key, self.key_bias = weights[:4]
        self.value, self.value_bias, self.output, self.output_bias = weights[4:]
        self.parameters_in_order = torch.nn.ParameterList(weights)

    def project(self, x, kernel, bias):
        heads = F.linear(x, kernel.flatten(1).T, bias.flatten())
        return heads.unflatten(-1, bias.shape).transpose(1, 2)  # [B, heads, positions, size]

    def forward(self, query, value, key=None):
        key = value if key is None else key
        heads = F.scaled_dot_product_attention(
            self.project(query, self.query, self.query_bias),
            self.project(key, self.key, self.key_bias),
            self.project(value, self.value, self.value_bias),
        )
        merged = heads.transpose(1, 2).flatten(2)
        return F.linear(merged, self.output.flatten(0, 1).T, self.output_bias)


# Keras layer type: function of the layer that returns a module
LAYERS = {
    "Add": lambda layer: Apply(torch.add),
    "BatchNormalization": _batch_normalization,
    "Conv2D": _convolution,
    "Dense": _dense,
    "DepthwiseConv2D": _convolution,
    "Flatten": _flatten,
    "GlobalAveragePooling1D": lambda layer: Apply(lambda x: x.mean(1)),
    "GlobalAveragePooling2D": lambda layer: Apply(lambda x: x.mean((2, 3))),
    "LayerNormalization": _layer_normalization,
    "MaxPooling2D": lambda layer: torch.nn.MaxPool2d(layer.pool_size, layer.strides),
    "MultiHeadAttention": Attention,
    "Position": Position,
    "ReLU": lambda layer: torch.nn.ReLU6() if layer.max_value == 6 else torch.nn.ReLU(),
    # [B, channels, height, width] -> [B, positions, channels]
    "Reshape": lambda layer: Apply(lambda x: x.flatten(2).transpose(1, 2)),
}
