"""Groups of features in cases, with their values over all coalitions in NumPy."""

import itertools
import math

import numpy as np
from method_networks import RNG

X, U = RNG.normal(size=(3, 5)), RNG.normal(size=(3, 2, 2))
STARTS, U_STARTS = RNG.normal(size=(4, 1, 5)), RNG.normal(size=(4, 3, 2, 2))
MIX, U_MIX = RNG.normal(size=(5, 3)), RNG.normal(size=(4, 3))


def net(x, u, np=np):
    """Features that interact, `[B]`."""
    h = np.tanh(x @ MIX + np.reshape(u, [-1, 4]) @ U_MIX)
    return h[:, 0] * h[:, 1] + h[:, 2]


def mixed(f, xs, starts, masks, group_is_in):
    """`f` with groups at their baseline for which `group_is_in(id)` is False; of all arrays, float64."""
    return f(*(np.where(group_is_in(mask), x, start) for x, start, mask in zip(xs, starts, masks)))


def spread(phi, masks, xs):
    """`[B, G]` shared equally by the features of each group."""
    full = [np.broadcast_to(mask, x.shape) for mask, x in zip(masks, xs)]
    sizes = sum(
        np.stack([(mask == g).reshape(len(x), -1).sum(1) for g in range(phi.shape[1])], 1)
        for mask, x in zip(full, xs)
    )
    shares = phi / np.maximum(sizes, 1)
    return [np.stack([shares[b][mask[b]] for b in range(len(x))]) for mask, x in zip(full, xs)]


def occlusion_of_groups(f, xs, sets, masks, count):
    """Group by group and baseline by baseline."""
    falls = [
        [f(*xs) - mixed(f, xs, starts, masks, lambda ids, g=g: ids != g) for g in range(count)]
        for starts in sets
    ]
    return np.mean(falls, 0).T


def shapley_of_groups(f, xs, sets, masks, count):
    """Over all coalitions."""
    phi = np.zeros([len(xs[0]), count])
    for starts, g in itertools.product(sets, range(count)):
        others = [j for j in range(count) if j != g]
        for size in range(count):
            for coalition in itertools.combinations(others, size):
                share = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
                with_g = mixed(f, xs, starts, masks, lambda ids, c=(*coalition, g): np.isin(ids, c))
                without = mixed(f, xs, starts, masks, lambda ids, c=coalition: np.isin(ids, c))
                phi[:, g] += share * (with_g - without)
    return phi / len(sets)


# name -> masks of x [3, 5] and u [3, 2, 2], and the number of groups
MASKS = {
    "unequal sizes, across inputs": ([0, 1, 1, 3, 1], [[2, 2], [3, 0]], 4),
    "an id that no feature has": ([0, 2, 2, 2, 5], [[5, 5], [0, 2]], 6),
    "one group": ([0] * 5, [[0, 0], [0, 0]], 1),
    "an axis of size 1": ([1, 0, 2, 1, 2], [[3], [0]], 4),
    "one mask for each row": (RNG.integers(0, 4, [3, 5]), RNG.integers(0, 4, [3, 2, 2]), 4),
    "of one input for each row": ([0, 1, 2, 2, 3], RNG.integers(0, 4, [3, 2, 2]), 4),
}
SETS = {"one baseline": (STARTS[0], U_STARTS[0]), "a set of baselines": (STARTS, U_STARTS)}


def case(name, baselines):
    x_mask, u_mask, count = MASKS[name]
    masks = [np.array(x_mask), np.array(u_mask)]
    several = baselines == "a set of baselines"
    sets = list(zip(STARTS, U_STARTS)) if several else [SETS[baselines]]
    whole = [mask if mask.ndim == x.ndim else mask[None] for mask, x in zip(masks, (X, U))]
    return dict(zip("xu", (x_mask, u_mask))), dict(zip("xu", SETS[baselines])), sets, whole, count
