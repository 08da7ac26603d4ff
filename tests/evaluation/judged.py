"""A network that is judged, and the metrics once more: loops in NumPy float64 over rows and steps."""

import numpy as np
import pytest
import tensorflow as tf
from reference import in_function, in_session, normal

BOTH = pytest.mark.parametrize("run", [in_session, in_function], ids=["session", "function"])
W, V = normal(6, 4, seed=2), normal(4, 3, seed=3)
X, MAP = normal(5, 6, seed=4), normal(5, 6, seed=5)
WEIGHTS = normal(5, 3, seed=6)
STARTS = normal(3, 1, 6, seed=7)
# Pixels: x [5, 2, 3, 2], attributed as [5, 2, 3, 1].
PIXELS, PIXEL_MAP, PIXEL_W = normal(5, 2, 3, 2), normal(5, 2, 3, 1, seed=8), normal(12, 4, seed=9)


def net(x, np=np):
    """`[B, 3]`."""
    return np.tanh(x @ W) @ V


def of_pixels(x, np=np):
    return np.tanh(np.reshape(x, [-1, 12]) @ PIXEL_W) @ V[:, :1]


def units_of(mask, x):
    """Features by unit: a list, of each row, of lists of flat places."""
    ids = np.broadcast_to(np.asarray(mask) if np.ndim(mask) == x.ndim else np.asarray(mask)[None], x.shape)
    ids = ids.reshape(len(x), -1)
    return [[np.flatnonzero(row == g) for g in range(ids.max() + 1)] for row in ids]


def without(f, x, starts, places):
    """The mean of F over baselines with the flat `places[b]` of each row at them, `[B]`."""
    found = []
    for start in starts:
        flat, full = x.reshape(len(x), -1).copy(), np.broadcast_to(start, x.shape).reshape(len(x), -1)
        for b, chosen in enumerate(places):
            flat[b, chosen] = full[b, chosen]
        found.append(f(flat.reshape(x.shape)))
    return np.mean(found, 0)


def sums_of(values, units):
    """Attributions `[B, features]` of the units, `[B, G]`."""
    return np.array([[row[places].sum() for places in unit] for row, unit in zip(values, units)])


def curves(f, x, values, units, starts, steps, taken):
    """`[B, steps + 1]` of attributions `values [B, features]`."""
    found, sums = [], sums_of(values, units)
    for step in range(steps + 1):
        places = []
        for b, unit in enumerate(units):
            present = [g for g in range(len(unit)) if len(unit[g])]
            order = sorted(present, key=lambda g, b=b: (-sums[b, g], g))
            count = int(np.floor(step * len(present) / steps + 0.5))
            chosen = order[:count] if taken else order[count:]
            places.append(np.concatenate([unit[g] for g in chosen] or [[]]).astype(int))
        found.append(without(f, x, starts, places))
    return np.stack(found, 1)


def area(curve):
    return ((curve[:, 1:] + curve[:, :-1]) / 2).mean(1)


def drawn_subsets(count, size, samples, seed):
    """The subsets that a seed stands for: the draws alone are TensorFlow's."""
    order = [
        np.argsort(tf.random.stateless_uniform([count], [seed, number], alg="philox").numpy(), kind="stable")
        for number in range(samples)
    ]
    return np.array(order) < size
