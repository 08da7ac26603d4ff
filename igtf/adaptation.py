"""Points where the gradient was seen to change: what the steps of one level say about those of the next."""

import numpy as np
import tensorflow as tf

from igtf.arithmetic import safe_ratio, where_finite
from integrated_gradients_tf import widen

SKETCHES = 4  # weighted sums of features whose slopes are followed
TURN = 2.39996  # the golden angle: weights of neighbouring features differ
READ = 2048  # features that are read, about twice as many at most
FOLLOWED = 1 / 2  # share of the points that lie where slopes change; probes of the network place the others


def sketch(steps, start, times=None):
    """`[K, B, ...]`, times `[B, ...]` -> `[K, B, SKETCHES]`: sums over features, weighted by -1 to 1.

    The first of them is plain: the slope of F, if `steps` are contributions to F. `start` counts the features
    of other tensors that are summed up as well.
    """
    flat = _sample(steps)
    if times is not None:
        flat *= _sample(times[None])
    # Of a size that is known these weights are a constant, which TensorFlow computes once.
    size = tf.shape(flat)[2] if flat.shape[2] is None else flat.shape[2]
    place = tf.cast(start + tf.range(size), tf.float32)
    weights = tf.cos(TURN * place[:, None] * np.arange(SKETCHES, dtype=np.float32))
    return tf.einsum("kbf,fs->kbs", flat, tf.cast(weights, flat.dtype))


def _sample(tensor):
    size = tensor.shape[2:].num_elements()
    flat = tf.reshape(widen(tensor), tf.concat([tf.shape(tensor)[:2], [-1 if size is None else size]], 0))
    return flat[:, :, :: (tf.shape(flat)[2] if size is None else size) // READ + 1]


def followed(probed, density, slopes, steps):
    """The density of the next level's points, `[B, bins + 1]`: the share of them up to each bin.

    An interval in which the gradient bends or jumps is off by the square of how much it does, if more than
    one layer is at it; the sum over all intervals is least if they share the changes evenly.

    Args:
      probed: what the probes of the network say, `[B, bins + 1]`, which some points always follow.
      density: the one that this level's `steps` were placed by, at equal quantiles.
      slopes: `[longest, B, SKETCHES]`: of each step, of which the first `steps` count.
    """
    change = where_finite(tf.reduce_sum(tf.abs(slopes[1:] - slopes[:-1]), axis=2))
    inside = tf.range(1, tf.shape(slopes)[0])[:, None] < steps
    change = tf.where(inside, change, 0)
    change = tf.pad(change, [[1, 0], [0, 0]]) + tf.pad(change, [[0, 1], [0, 0]])  # of either interval
    total = tf.transpose(tf.pad(tf.cumsum(change), [[1, 0], [0, 0]]))
    whole = total[:, -1:]
    place = density * tf.cast(steps, density.dtype)
    low = tf.clip_by_value(tf.cast(place, tf.int32), 0, steps - 1)
    rest = place - tf.cast(low, place.dtype)
    before, after = (tf.gather(total, at, batch_dims=1) for at in (low, low + 1))
    share = safe_ratio(before + rest * (after - before), whole)
    return tf.stop_gradient(tf.where(whole > 0, probed + FOLLOWED * (share - probed), probed))
