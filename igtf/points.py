"""Where the steps of a path lie: at even places, or where probes of the network say that much happens."""

import copy
import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from igtf.arithmetic import where_finite
from igtf.levels import rule_of
from igtf.probes import TAIL, find_readers, movers_of, norms_of, probe, reader_of, states_of, switches_of


def _can_tell_rows_apart(subgraph):
    """Whether rows in which nothing switches are worth a rule of their own, and can be told."""
    found = [switches_of(op, subgraph.varying) or states_of(op, subgraph.varying) for op in subgraph.kinks]
    told = all(any(subgraph.is_followed(like) for like, _ in readers) for readers in found)
    return subgraph.curved and subgraph.aligned and not subgraph.layers and told


class Points:
    """Where the steps of a path lie, for each row: the ends of secant's intervals, or the nodes of a rule.

    Attributes:
      density: `[B, bins + 1]`, the share of secant's points up to each bin of the path; None if even.
      probed: what of it the probes say, where the density has followed the steps of other levels.
      map: what `auto` takes the nodes of Gauss-Legendre through; None where they stay as they are.
      switching: `[B]`, the rows that take secant's points; None if all of them do.
      steps: how many there are, and `rule`, the nodes and weights of points alone, of the last level.
    """

    def __init__(self, path, levels, method, auto, limit, nested=False):
        subgraph, steps = path.subgraph, levels.counts[-1]
        self.path, self.levels, self.steps, self.limit, self.nested = path, levels, steps, limit, nested
        self.secant = method == "secant"
        # Nodes that follow the network, where `auto` leaves the choice to us.
        self.graded = auto and subgraph.aligned and method == "gausslegendre" and steps >= LEAST_GRADED
        # Rows in which nothing switches take the nodes of Gauss-Legendre, where these are better.
        self.mixed = auto and self.secant and steps > 1 and _can_tell_rows_apart(subgraph)
        self.inside = auto and self.secant and subgraph.tests_equality
        points_only = "gausslegendre" if self.mixed else None if self.secant else method
        points_only = levels.method if nested else points_only
        self.rules = points_only and levels.rules(points_only, nested)
        self.rule = self.rules and self.rules[-1]
        self.level = None  # of which these are the points; None if it is the last
        self.density, self.probed, self.map, self.switching = None, None, None, None
        if subgraph.aligned and (self.secant or self.graded):
            self._find()

    def at(self, level, path, rows=None, density=None):
        """The points of a level, an index of their numbers (a tensor); of some rows, on their path."""
        part = copy.copy(self)
        density = self.density if density is None else density
        part.path, part.level = path, level
        counts = [len(nodes) for nodes, _ in self.rules] if self.rules else self.levels.counts
        part.steps = tf.constant(counts)[level]
        if self.rules:
            part.rule = [_table(columns, path.dtype)[level] for columns in zip(*self.rules)]
        if self.map is not None:
            total = self.map["total"]
            total = tf.transpose(total)[:, None] if self.nested else total[:, level]
            part.map = dict(self.map, total=total)
        if rows is not None:
            found = density, self.density, self.switching
            density, part.probed, part.switching = (None if t is None else tf.gather(t, rows) for t in found)
            part.map = part.map and {n: tf.gather(t, rows, axis=-1) for n, t in part.map.items()}
        part.density = density
        return part

    def of_block(self, index, size):
        """Points and weights of a block of `size` steps.

        A pair of `[K, 1 or B]`, the distances from both ends, and `[K, 1 or B]`; `secant` has K + 1 points.
        """
        steps = self.steps
        if self.secant:
            at = tf.minimum(index * size + tf.range(size + 1), steps)
            points, widths = self._graded(tf.cast(at, self.path.dtype) / tf.cast(steps, self.path.dtype))
            if self.inside:
                points = [tf.maximum(p, INSIDE) for p in points]
            if self.switching is None:
                return points, widths
            nodes, weights = self._nodes(index, size, 1)
            points = [tf.where(self.switching, *pair) for pair in zip(points, nodes)]
            return points, tf.where(self.switching, widths, weights[:-1])
        return self._nodes(index, size)

    def _nodes(self, index, size, more=0):
        """Nodes and weights of a rule of points, likewise; if nested, `[levels, K, 1 or B]` of weights."""
        steps, dtype = self.steps, self.path.dtype
        at = index * size + tf.range(size + more)
        last = tf.minimum(at, steps - 1)
        alphas, weights = (tf.gather(tf.convert_to_tensor(v, dtype), last, axis=-1) for v in self.rule)
        points, slopes = self._mapped(alphas)
        return points, tf.where(at[:, None] < steps, weights[..., None] * slopes, 0)

    def intervals(self, index, size):
        """Start and end of the interval that each step of a gradient rule stands for."""
        table = _table([_edges(*rule) for rule in self.rules], self.path.dtype)
        at = tf.minimum(index * size + tf.range(size + 1), self.steps)
        edges, _ = self._mapped(tf.gather(table[-1 if self.level is None else self.level], at))
        return tuple(edge[:-1] for edge in edges), tuple(edge[1:] for edge in edges)

    def _find(self):
        """What is needed to place the points of every row.

        Error sits where units switch, where attention, probabilities and the output move, and where
        what the network divides by moves in logarithm: behind a normalization that is flat at one end
        of the path everything may happen within a millionth of it. A few probes of the network on the
        path tell where that is.
        """
        if self.steps == 1:
            return
        subgraph, many = self.path.subgraph, self.steps >= LEAST_GRADED

        def some(seen, ops):
            readers = find_readers(subgraph, seen, ops)
            return readers[:: len(readers) // MOST_READ + 1]

        groups = {}  # name -> groups of readers; what a group sees counts together
        if self.secant:
            groups["switches"] = [some(switches_of, subgraph.reached)]
            groups["softmaxes"] = [[r] for r in find_readers(subgraph, movers_of, subgraph.rest) if many]
        if self.mixed:
            groups["states"] = [some(states_of, subgraph.kinks)]
        if self.graded or (self.mixed and many):
            groups["outputs"] = [[reader_of(subgraph, y, 0)] for y in subgraph.ys if y.shape.rank is not None]
        groups["norms"] = [[reader] for reader in some(norms_of, subgraph.rest)]
        groups = {name: found for name, parts in groups.items() if (found := [p for p in parts if p])}
        if not groups or (self.graded and subgraph.jumps and "norms" not in groups):
            return  # by jumps alone, no nodes are better than others
        many = MOVE_PROBES if "outputs" in groups else SWITCH_PROBES if "softmaxes" in groups else 1
        self.bins = _bins(many, "norms" in groups)
        seen = probe(self.path, self.bins, groups, self.limit)
        if self.mixed:
            self.switching = _switching(seen.get("switches", []) + seen.get("states", []))
        if self.secant:
            share = self._share(seen, seen.get("switches"), seen.get("softmaxes"))
            edges = tf.concat([tf.zeros_like(share[:, :1]), tf.cumsum(share, axis=1)], 1)
            self.density = self.probed = tf.stop_gradient(edges)
        if seen.get("outputs"):
            self.map = self._evening_map(tf.stop_gradient(self._share(seen, None, seen["outputs"])))

    def _share(self, seen, switches, movers):
        """The share of the points that each bin of the path gets, `[B, bins]`."""
        size, dtype = self.bins.size, self.path.dtype
        even = tf.constant(self.bins.widths, dtype)
        # Some points everywhere: probes miss what switches twice or moves there and back.
        share = tf.zeros([self.path.batch, 1], dtype) + even
        for units in switches or ():
            share += _crossings(units, size)
        if movers:
            moved = tf.reduce_mean(_shares(_moves(movers)), axis=0)
            moved = tf.repeat(moved, size, axis=1) / size + 0.1 * even
            share = moved if switches is None else tf.sqrt(share * moved)
        share /= tf.reduce_sum(share, axis=1, keepdims=True)
        if seen.get("norms"):
            logs = tf.minimum(_moves(seen["norms"]), 4.0)
            logs = tf.repeat(tf.reduce_max(logs, axis=0), size, axis=1) / size
            share = NATS**2 * share + logs * tf.reduce_sum(logs, axis=1, keepdims=True)
            share /= tf.reduce_sum(share, axis=1, keepdims=True)
        return share

    def _graded(self, quantiles):
        """Points at these quantiles `[P]` of the density, and how far it is from one to the next.

        A pair of `[P, B]`, the distances from both ends, each exact near its own, and `[P - 1, B]`.
        """
        if self.density is None:
            low = quantiles[:, None]
            return (low, 1 - low), low[1:] - low[:-1]
        low, high = self.density[:, :-1], self.density[:, 1:]
        width = tf.where(high > low, high - low, 1)
        covered = tf.clip_by_value((quantiles[:, None, None] - low) / width, 0, 1)
        covered = tf.where(quantiles[:, None, None] >= 1, tf.ones([], covered.dtype), covered)
        widths = tf.constant(self.bins.widths, covered.dtype)

        def total(parts):
            return tf.reduce_sum(parts * widths, axis=2)

        one = tf.ones([], covered.dtype)
        ends = [
            tf.where(at[:, None], one, total(part))
            for at, part in ((quantiles >= 1, covered), (quantiles <= 0, 1 - covered))
        ]
        return ends, total(covered[1:] - covered[:-1])

    def _evening_map(self, share):
        """For each row, the map of the path under which its density is most even, `[B]` tensors."""
        maps, dtype = _maps(self.bins, self.steps), share.dtype
        best = tf.argmin(tf.matmul(share, tf.constant(maps.costs, dtype)), axis=1)
        rule = "fejer" if self.nested else "gausslegendre"
        total = [_total(maps.rows, count, rule) for count in self.levels.counts]
        found = dict(maps.rows, total=np.stack(total, 1) if self.levels.several else total[0])
        return {name: tf.gather(tf.constant(values, dtype), best) for name, values in found.items()}

    def _mapped(self, nodes):
        """Points at the nodes `[P]` of a rule, as a pair of distances from both ends `[P, B]`, and slopes.

        alpha = center + line node + width sinh(low + (high - low) node) goes from 0 to 1. It is dense around
        its center or, with a line, all over the part of the path that the line is as long as. Being
        analytic it lets Gauss-Legendre converge as fast as without it, or far faster.
        """
        nodes = nodes[:, None]
        if self.map is None:
            return (nodes, 1 - nodes), tf.ones([], nodes.dtype)
        m = self.map
        at = m["low"] + (m["high"] - m["low"]) * nodes
        way = m["line"] * nodes + m["width"] * tf.sinh(at)
        slope = m["line"] + m["width"] * tf.cosh(at) * (m["high"] - m["low"])
        # Distances are exact near the end that is the center.
        start = tf.where(m["center"] < 1, m["center"] + way, 1 + way)
        end = tf.where(m["center"] < 1, (1 - m["center"]) - way, -way)
        even, one = m["even"] > 0, tf.ones([], nodes.dtype)
        start, end = tf.clip_by_value(start, 0, 1), tf.clip_by_value(end, 0, 1)
        ends = tf.where(even, nodes, start), tf.where(even, 1 - nodes, end)
        return ends, tf.where(even, one, slope / m["total"])


class Bins:
    """Parts of the path, with a probe of the network at the beginning of every `size` of them."""

    def __init__(self, widths, probes, tails=False):
        self.widths, self.probes, self.size, self.tails = widths, probes, len(widths) // probes, tails
        zero = [0]
        self.low = np.concatenate([zero, np.cumsum(widths)])
        self.high = np.concatenate([np.cumsum(widths[::-1])[::-1], zero])  # 1 - low, exact near the end


@functools.lru_cache(maxsize=16)
def _bins(probes, tails):
    """Even parts; with `tails`, also parts in geometric progression towards both ends."""
    if not tails:
        return Bins(np.full(BINS, 1 / BINS), probes)
    at = np.arange((len(TAILS) - 1) * TAIL_SIZE + 1) / TAIL_SIZE
    edges = TAIL * np.exp(-np.interp(at, np.arange(len(TAILS)), TAILS))
    tail = np.diff(np.concatenate([edges[0] * np.arange(TAIL_SIZE) / TAIL_SIZE, edges]))
    middle = np.full(MOVE_PROBES * TAIL_SIZE, (1 - 2 * TAIL) / (MOVE_PROBES * TAIL_SIZE))
    return Bins(np.concatenate([tail, middle, tail[::-1]]), 2 * len(TAILS) + MOVE_PROBES, tails)


@functools.lru_cache(maxsize=16)
def _maps(bins, steps):
    """The maps that a row can choose from, and what each costs: `[bins, maps]`.

    The cost of a map is the mean, over the density, of minus the logarithm of how many nodes of the rule
    it puts there: least where the density is even in terms of its nodes (Gibbs' inequality). Of two that
    are alike, the one that bends less converges in fewer steps.
    """
    inner = [(c / 16, 2.0**-k) for c in range(1, 16) for k in range(1, 7)]
    outer = [(end, 4.0**-k) for end in (0, 1) for k in range(15 if bins.tails else 4)]
    center, width = np.array([(0.5, 1.0), *inner, *outer]).T
    low, high = np.arcsinh(-center / width), np.arcsinh((1 - center) / width)
    even = np.arange(len(center)) == 0
    middle_low, middle_high = ((d[1:] + d[:-1])[:, None] / 2 for d in (bins.low, bins.high))
    distance = np.where(center < 1, middle_low - center, middle_high)
    costs = np.where(even, 0, np.log(np.hypot(distance, width) * (high - low)))
    # Windows [l, r]: l + (r - l) t + p exp(rate (t - 1)) - q exp(-rate t), where p and q hit 0 and 1.
    parts = [(i / 8, j / 8) for i in range(8) for j in range(i + 1, 9) if j - i < 8]
    left, right, rate = np.array([(*part, rate) for part in parts for rate in (6, 12, 24)]).T
    fade = np.exp(-rate)
    p = (1 - right + left * fade) / (1 - fade**2)
    q = left + p * fade
    width_of, low_of = 2 * np.sqrt(p * q * fade), np.log(p * fade / q) / 2  # as a sinh
    window = dict(center=left, line=right - left, width=width_of, low=low_of)
    rows = dict(center=center, line=0 * center, width=width, low=low)
    rows = {name: np.append(rows[name], window[name]) for name in rows}
    rows["high"] = np.append(high, window["low"] + rate)
    span = rows["high"] - rows["low"]
    grid = np.linspace(0, 1, 2001)[:, None]
    way = rows["center"] + rows["line"] * grid + rows["width"] * np.sinh(rows["low"] + span * grid)
    slopes = np.log(_slopes(rows, grid))
    windows = range(len(center), len(span))
    dense = np.stack([np.interp(middle_low[:, 0], way[:, i], slopes[:, i]) for i in windows], 1)
    costs = np.concatenate([costs, dense + BENT_COST * rate / steps], 1)
    return Maps(costs, dict(rows, even=np.arange(len(span)) == 0))


def _slopes(rows, nodes):
    """Of each map at nodes `[P, 1]`, `[P, maps]`."""
    span = rows["high"] - rows["low"]
    return rows["line"] + rows["width"] * np.cosh(rows["low"] + span * nodes) * span


def _total(rows, steps, rule):
    """What a constant has as its integral under each map, `[maps]`; with more steps it has 1 anyway."""
    if steps > 1024:
        return np.ones(len(rows["low"]))
    nodes, weights = rule_of(steps, rule)
    return weights @ _slopes(rows, nodes[:, None])


class Maps(NamedTuple):
    costs: np.ndarray
    rows: dict


BINS = 64
SWITCH_PROBES = 4
MOVE_PROBES = 8
TAILS = (28, 21, 15, 10, 6, 3, 0)  # their depths in nats
TAIL_SIZE = 4
NATS = 3.0  # movement of a norm in logarithm that earns it half of the points
LEAST_GRADED = 10  # steps for which several probes are worth their time
BENT_COST = 0.03  # in nats, of a rate of exponential growth per step
INSIDE = 1e-6  # how far points stay from the ends of the path where values may jump at them
MOST_READ = 25  # ops that switch; of deeper networks some tell enough, and the others take time to build


def _edges(nodes, weights):
    """Where the intervals begin and end that the nodes of a rule stand for, `[nodes + 1]`."""
    return np.concatenate([[0], np.cumsum(weights)[:-1], [1]])


def _table(columns, dtype):
    """Arrays `[..., P]` as one `[arrays, ..., longest P]`, filled up by their last entries."""
    longest, full = max(column.shape[-1] for column in columns), []
    for column in columns:
        more = [(0, 0)] * (column.ndim - 1) + [(0, longest - column.shape[-1])]
        full.append(np.pad(column, more, "edge"))
    return tf.constant(np.stack(full), dtype)


def _switching(seen):
    """`[probes + 1, B, units]` each -> `[B]`: whether any unit has other signs at some probes than at others.

    What is zero at an end alone does not switch on the way, as of a network without biases from zeros.
    """
    found = [tf.reduce_any(tf.reduce_any(t > 0, 0) & tf.reduce_any(t < 0, 0), axis=1) for t in seen]
    return tf.reduce_any(tf.stack(found), axis=0)


def _crossings(seen, size):
    """`[L + 1, B, units]` -> `[B, L * size]`: the share of crossings of zero in equal parts of the probes.

    Between two probes they are where they would be were the units linear there.
    """
    before, after = seen[:-1], seen[1:]
    probes, rows = before.shape.as_list()[0], tf.shape(seen)[1]
    low, high = tf.minimum(before, after), tf.maximum(before, after)
    crosses = (low < 0) & (high > 0)
    if probes > 1:
        # What is zero at a probe crosses on both sides of it.
        # (Padded as a number: TensorFlow Lite of TensorFlow 2.12 pads no booleans.)
        through = tf.cast(tf.equal(seen[1:-1], 0) & (seen[:-2] * seen[2:] < 0), tf.int32)
        through = tf.pad(through, [[1, 1], [0, 0], [0, 0]]) > 0
        crosses |= through[:-1] | through[1:]
    at = tf.where(crosses, low / tf.where(crosses, low - high, 1), 0)
    part = tf.clip_by_value(tf.cast(at * size, tf.int32), 0, size - 1)
    # Counted from the lower end, so that both directions of a path are mirrored to the last bit.
    part = tf.where(before < after, part, size - 1 - part) + size * tf.range(probes)[:, None, None]
    part += probes * size * tf.range(rows)[:, None]
    total = rows * probes * size  # where those go that do not cross
    part = tf.reshape(tf.where(crosses, part, total), [-1])
    counts = tf.math.unsorted_segment_sum(tf.ones_like(part, seen.dtype), part, total + 1)[:-1]
    return _shares(tf.reshape(counts, [rows, probes * size]))


def _moves(seen):
    """Tensors `[L + 1, B, units]` -> `[tensors, B, L]`: how far units move between probes, in the mean."""
    units = [t.shape.as_list()[2] for t in seen]
    units = tf.stack([tf.shape(t)[2] for t in seen]) if None in units else units
    both = tf.concat(seen, 2)
    parts = tf.split(where_finite(tf.abs(both[1:] - both[:-1])), units, axis=2, num=len(seen))
    return tf.transpose(tf.stack([tf.reduce_mean(part, axis=2) for part in parts]), [0, 2, 1])


def _shares(counts):
    """Counts `[..., parts]` divided by their sum, if there are any."""
    return tf.math.divide_no_nan(counts, tf.reduce_sum(counts, axis=-1, keepdims=True))
