"""What becomes of explanations when the weights of a network are shuffled, layer by layer."""

import contextlib

import numpy as np
import tensorflow as tf

from igtf.explainer.arrays import describe
from igtf.explainer.comparison import rank_correlation
from igtf.explainer.layers import all_layers

__all__ = ["compared", "shuffling", "weights_of"]


def weights_of(network, layers):
    """`{name: variables}` of the layers to shuffle, from the top.

    Args:
      network: the Explainer's.
      layers: None for all with weights, names or indices, or `{name: variables}`.
    """
    if isinstance(layers, dict):
        found = {name: list(variables) for name, variables in layers.items()}
        wrong = [v for variables in found.values() for v in variables if not hasattr(v, "assign")]
        if wrong:
            raise TypeError(
                f"Explainer.randomization_test: layers holds a {type(wrong[0]).__name__}, expected "
                "variables: {name: [variables]}, or names of layers."
            )
    elif layers is None:
        inside = list(all_layers(network.model))
        found = {f"{layer.name}": _own(layer) for layer in inside[::-1]}
        if len(found) < len(inside):  # some share their names
            found = {f"{layer.name} ({i})": _own(layer) for i, layer in reversed(list(enumerate(inside)))}
    else:
        layers = layers if isinstance(layers, (list, tuple)) else [layers]
        found = {
            place.layer.name: place.layer.weights for place in network.find("layers", layers, True) or []
        }
    found = {name: [v for v in weights if _is_floating(v)] for name, weights in found.items()}
    found = {name: weights for name, weights in found.items() if weights}
    if not found:
        raise ValueError(
            "Explainer.randomization_test: no layer with weights was found, expected a Keras model. Pass "
            "layers={name: [variables], ...}, from the top."
        )
    return found


def _own(layer):
    """The weights that are not those of a layer inside."""
    inside = {id(v) for part in all_layers(layer) for v in part.weights}
    return [v for v in layer.weights if id(v) not in inside]


def _is_floating(variable):
    return tf.as_dtype(variable.dtype).is_floating


@contextlib.contextmanager
def shuffling(weights, seed):
    """Yields a function that shuffles the entries of the named weights; in the end all are as before."""
    draws = np.random.default_rng(seed)
    before = [(v, v.numpy()) for variables in weights.values() for v in variables]

    def shuffle(name):
        for variable in weights[name]:
            value = variable.numpy()
            variable.assign(draws.permutation(value.ravel()).reshape(value.shape))

    try:
        yield shuffle
    finally:
        for variable, value in before:
            variable.assign(value)


def compared(before, after, ssim):
    """Measures of how alike two explanations are, `[N]` each."""
    a, b = (_features(part) for part in (before, after))
    found = {"rank_correlation": rank_correlation(a, b), "of_sizes": rank_correlation(abs(a), abs(b))}
    if ssim:
        found["ssim"] = np.array([_similarity(*pair) for pair in zip(_maps(before), _maps(after))])
    return found


def _features(explanation):
    parts = [part for part in tf.nest.flatten(explanation) if part is not None]
    return np.concatenate([np.reshape(part, [len(part), -1]) for part in parts], 1)


def _maps(explanation):
    """`[N, H, W]`, from -1 to 1."""
    if (
        not isinstance(explanation, np.ndarray)
        or explanation.ndim not in (3, 4)
        or min(explanation.shape[1:3]) < 3
    ):
        raise ValueError(
            f"Explainer.randomization_test: ssim is True for attributions {describe(explanation)}, expected "
            "those of images, [N, H, W] or [N, H, W, C], 3 pixels wide at least. Leave it out."
        )
    maps = np.float64(explanation if explanation.ndim == 3 else explanation.sum(-1))
    largest = abs(maps).max((1, 2), keepdims=True)
    return maps / np.where(largest > 0, largest, 1)


def _similarity(a, b):
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise ImportError(
            "Explainer.randomization_test: ssim needs scikit-image. Install it: pip install scikit-image."
        ) from error
    window = min(7, min(a.shape) - 1 + min(a.shape) % 2)
    return structural_similarity(a, b, win_size=window, data_range=2.0)
