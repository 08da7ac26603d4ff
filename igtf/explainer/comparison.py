"""Numbers of several methods on the same rows: intervals of differences, correlations of ranks."""

import numpy as np

__all__ = ["bootstrap", "rank_correlation"]

CHUNK = 2**22  # entries of a block of weights


def bootstrap(values, confidence, resamples, seed):
    """Intervals of means over rows that are drawn again, with replacement: the percentiles of them.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Args:
      values: `[N, P]`, drawn together row by row, so that all columns see the same draws.
      confidence: such as 0.95.
      resamples: how often rows are drawn.
      seed: of the draws.

    Returns:
      `[2, P]`: the lower and the upper end.
    """
    rows, draws = len(values), np.random.default_rng(seed)
    size, means = max(1, CHUNK // max(rows, 1)), []
    for begin in range(0, resamples, size):
        counts = draws.multinomial(rows, np.full(rows, 1 / rows), min(size, resamples - begin))
        means.append(counts @ values / rows)
    tails = (1 - confidence) / 2
    return np.quantile(np.concatenate(means), [tails, 1 - tails], axis=0)


def rank_correlation(a, b):
    """Spearman's, of each row of `[N, features]`: `[N]`. NaN where one of them is constant."""
    a, b = _centred_ranks(a), _centred_ranks(b)
    with np.errstate(invalid="ignore"):
        return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))


def _centred_ranks(values):
    """Ranks less their mean; equal values have the mean of theirs."""
    ranks = np.empty(np.shape(values))
    for row, out in zip(values, ranks):
        _, place, counts = np.unique(row, return_inverse=True, return_counts=True)
        out[:] = (np.cumsum(counts) - counts / 2)[np.ravel(place)] - len(row) / 2
    return ranks
