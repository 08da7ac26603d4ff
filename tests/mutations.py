"""Breaks the product on purpose and asks whether the tests notice: `python tests/mutations.py`.

Every mutation replaces one piece of text in a copy of the repository and runs a few tests there, which
have to fail. A text that is not found exactly once is an error: the product has changed, change the
mutation. `--only WORD` runs some of them, `--list` none, `--jobs 1` one at a time.
"""

# ruff: noqa: E501

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
GRADIENTS, RELEVANCE = "igtf/methods/gradients.py", "igtf/methods/relevance.py"
PERTURBATION, SAMPLING = "igtf/methods/perturbation.py", "igtf/methods/sampling.py"
COALITIONS, OF_COALITIONS = "igtf/methods/coalitions.py", "tests/methods/test_coalitions.py"
MAPS, OF_MAPS = "igtf/methods/activation_maps.py", "tests/methods/test_activation_maps.py"
AREAS, OF_AREAS = "igtf/visualization/areas.py", "tests/visualization/test_areas.py"
PAGE, OF_PAGE = "igtf/visualization/page/", "tests/visualization/test_page.py"
DATASETS, OF_DATASETS = "igtf/visualization/datasets.py", "tests/visualization/test_datasets.py"
SERIES, OF_SERIES = "igtf/visualization/series.py", "tests/visualization/test_series.py"
SUMMARY, OF_PICTURES = "igtf/explainer/summary.py", "tests/explainer/test_pictures.py"
OPERATORS, OF_OPERATORS = "igtf/explainer/operators.py", "tests/explainer/test_operators.py"
GROUPS, OF_GROUPS = "igtf/methods/groups.py", "tests/methods/test_groups.py"
RECIPE, AXIOMS = "tests/test_recipe.py", "tests/test_axioms.py"
ATTRIBUTIONS, CONDUCTANCE = "tests/test_attributions.py", "tests/test_conductance.py"
PATH_INTEGRAL, POINTS = "tests/test_path_integral.py", "tests/test_points.py"
SUBGRAPH, REFINEMENT = "tests/test_subgraph.py", "tests/test_refinement.py"
SECANT, ELEMENTWISE = "tests/secant/test_secant.py", "tests/secant/test_elementwise.py"
CHOICES, POOLING = "tests/secant/test_choices.py", "tests/secant/test_pooling.py"
PRODUCTS, SOFTMAX = "tests/secant/test_products.py", "tests/secant/test_softmax.py"
OF_GRADIENTS, OF_RELEVANCE = "tests/methods/test_gradients.py", "tests/methods/test_relevance.py"
OF_PERTURBATION, OF_SAMPLING = "tests/methods/test_perturbation.py", "tests/methods/test_sampling.py"
ADAPTATION, PATHS = "tests/test_adaptation.py", "tests/test_paths.py"
GUIDED, INTERACTIONS = "tests/test_guided.py", "tests/test_interactions.py"
CURVES, OF_CURVES = "igtf/evaluation/curves.py", "tests/evaluation/test_curves.py"
OF_FIDELITY = "tests/evaluation/test_fidelity.py"
CONFORMANCE, HOSTILE = "tests/test_conformance.py", "tests/test_hostile.py"
SERVING, OF_SERVING = "igtf/serving.py", "tests/test_serving.py"
CLUSTER, OF_CLUSTER = "igtf/ray/dataset.py", "tests/test_ray.py"
KERAS, OF_KERAS = "igtf/keras.py", "tests/test_keras.py"
LANGUAGE, OF_TOKENS = "igtf/language/", "tests/language/test_tokens.py"
OF_TEXTS, OF_GENERATION = "tests/language/test_text_explainer.py", "tests/language/test_generation.py"
OF_MATRIX = "tests/visualization/test_token_matrix.py"

# (what is broken, file, text, its replacement, tests that notice)
MUTATIONS = [
    ("left for right", "integrated_gradients_tf.py", "\"riemann_left\": lambda n: (np.arange(n) / n", "\"riemann_left\": lambda n: (np.arange(1, n + 1) / n", [RECIPE]),
    ("middle by half a step", "integrated_gradients_tf.py", "(np.arange(n) + 0.5) / n", "(np.arange(n) + 0.0) / n", [RECIPE]),
    ("a trapezoid with full weights at its ends", "integrated_gradients_tf.py", "    weights[[0, -1]] /= 2\n", "", [RECIPE]),
    ("Gauss-Legendre weights not halved", "integrated_gradients_tf.py", "weights = [rules[size][1] / 2 / panels for size in sizes]", "weights = [rules[size][1] / panels for size in sizes]", [RECIPE]),
    ("panels shifted by one", "integrated_gradients_tf.py", "points = [(i + (rules[size][0] + 1) / 2) / panels", "points = [(i + 1 + (rules[size][0] + 1) / 2) / panels", [RECIPE]),
    ("the path from x to the baseline", "integrated_gradients_tf.py", "as_column(points, tensor), as_column(1 - points, tensor)", "as_column(1 - points, tensor), as_column(points, tensor)", [RECIPE]),
    ("the sign of the step", "integrated_gradients_tf.py", "step = as_column(weights, tensor) * change", "step = as_column(weights, tensor) * -change", [RECIPE]),
    ("the change without the baseline", "igtf/path_integral.py", "result = grad * (widen(end) - widen(start))", "result = grad * widen(end)", [AXIOMS + " -k complete"]),
    ("the mean over steps forgotten", "igtf/path_integral.py", "            total = total / tf.cast(self.steps, total.dtype)\n", "", [ATTRIBUTIONS]),
    ("the last block of steps not cut off", "igtf/points.py", "return points, tf.where(at[:, None] < steps, weights[..., None] * slopes, 0)", "return points, weights[..., None] * slopes", [AXIOMS + " -k blocks"]),
    ("weights of steps forgotten", "igtf/block.py", "            shares = self.weights * tf.cast(integral.steps, self.weights.dtype)", "            pass", [AXIOMS + " -k gauss_legendre"]),
    ("grad_ys forgotten", "igtf/block.py", "share *= tf.cast(weight, y.dtype)", "share *= 1", [ATTRIBUTIONS]),
    ("stop_gradients forgotten in the replay", "igtf/block.py", "grads = tf.gradients(ys, at, grad_ys=seeds, stop_gradients=at)", "grads = tf.gradients(ys, at, grad_ys=seeds)", [CONDUCTANCE + " -k conductances"]),
    ("the slope of an op twice", "igtf/intervals.py", "return tf.gradients(out, ins[slot], grad, stop_gradients=ins)[0]", "return tf.gradients(out, ins[slot], 2 * grad, stop_gradients=ins)[0]", [ELEMENTWISE]),
    ("one adjoint kept where several meet", "igtf/backpropagation.py", "adjoints[ref] = parts = [tf.add_n(parts)]", "adjoints[ref] = parts = parts[:1]", [AXIOMS + " -k complete"]),
    ("tensors beside the path not repeated", "igtf/subgraph.py", "value = copied(value, copies)", "value = tf.repeat(value, copies, axis=0)", [SUBGRAPH]),
    ("starts for ends in conductance", "igtf/block.py", "widen(self.intervals.of(t, 1)) - widen(self.intervals.of(t, 0))", "widen(self.intervals.of(t, 0)) - widen(self.intervals.of(t, 1))", [CONDUCTANCE, AXIOMS]),
    ("Relu's slope at its start only", "igtf/secant/elementwise.py", "return safe_ratio(above(op) + above(other), size0 + size1)", "return safe_ratio(above(op), size0)", [SECANT]),
    ("the slope of Abs by its size", "igtf/secant/elementwise.py", "return safe_ratio(z0 + z1, tf.abs(z0) + tf.abs(z1))", "return safe_ratio(tf.abs(z0) + tf.abs(z1), z0 + z1)", [ELEMENTWISE]),
    ("no derivative where a slope cancels", "igtf/secant/elementwise.py", "near = same | (tf.abs(mean * change - gain) <= rounding)", "near = same", [ELEMENTWISE]),
    ("a product at its start", "igtf/secant/products.py", "return start if start is end else (start + end) / 2", "return start", [PRODUCTS]),
    ("a quotient with the wrong sign", "igtf/secant/products.py", "return -1 / (b0 * b1)", "return 1 / (b0 * b1)", [PRODUCTS]),
    ("ties of Maximum share half", "igtf/secant/choices.py", "    return tf.where(tf.equal(first0, first1), tf.cast(first0, gap0.dtype), crossing)", "    return tf.fill(tf.shape(gap0 + gap1), tf.constant(0.5, gap0.dtype))", [CHOICES]),
    ("max pooling by the lead at its start", "igtf/secant/pooling.py", "sizes = [tf.add_n(ends(\"size\", tf.abs, i)) for i in leads]", "sizes = [2 * ends(\"size\", tf.abs, i)[0] for i in leads]", [POOLING]),
    ("entries that pooling leaves over at the wrong end", "igtf/secant/pooling.py", "paddings[axis] = 0, _at_least_0(missing)", "paddings[axis] = _at_least_0(missing), 0", [POOLING]),
    ("adjoints of pooling in the windows before", "igtf/secant/pooling.py", "paddings[self.axis] = first, self.later - first", "paddings[self.axis] = self.later - first, first", [POOLING]),
    ("Relu6 without its slope at equal ends", "igtf/secant/elementwise.py", "return safe_ratio(other.outputs[0] - op.outputs[0], change) + derivative", "return safe_ratio(other.outputs[0] - op.outputs[0], change)", [ELEMENTWISE]),
    ("the reduction Max with winners swapped", "igtf/secant/choices.py", "return won1 + half_ratio(gap0, gap1) * (won0 - won1)", "return won0 + half_ratio(gap0, gap1) * (won1 - won0)", [CHOICES]),
    ("softmax without its correction", "igtf/secant/softmax.py", "return [mean + missing * direction]", "return [mean]", [SOFTMAX]),
    ("secant points shifted by one", "igtf/points.py", "at = tf.minimum(index * size + tf.range(size + 1), steps)", "at = tf.minimum(index * size + tf.range(1, size + 2), steps)", [POINTS]),
    ("points where nothing switches", "igtf/points.py", "crosses = (low < 0) & (high > 0)", "crosses = (before < 0) & (after < 0) | (before > 0) & (after > 0)", [POINTS]),
    ("points where probabilities stand still", "igtf/points.py", "tf.abs(both[1:] - both[:-1])", "1 / (1e-3 + tf.abs(both[1:] - both[:-1]))", [POINTS + " -k gather"]),
    ("points that are not mirrored", "igtf/points.py", "part = tf.where(before < after, part, size - 1 - part) + size", "part = part + size", [POINTS]),
    ("auto takes secant for smooth networks", "igtf/path_integral.py", "method = \"secant\" if subgraph.kinks and not subgraph.jumps else \"gausslegendre\"", "method = \"gausslegendre\" if subgraph.kinks else \"secant\"", [PATH_INTEGRAL]),
    ("rows in which nothing switches like the others", "igtf/points.py", "points = [tf.where(self.switching, *pair) for pair in zip(points, nodes)]", "", [POINTS]),
    ("ends of rows in which nothing switches", "igtf/intervals.py", "later = tf.repeat(tf.cast(self.switching, tf.int32), one // tf.shape(self.switching)[0]) * one", "later = tf.repeat(tf.ones_like(self.switching, tf.int32), one // tf.shape(self.switching)[0]) * one", [POINTS]),
    ("repeated rows cut as if they were there once", "igtf/intervals.py", "            if self.times(tensor) > 1:\n                cut", "            if False:\n                cut", ["tests/test_intervals.py"]),
    ("loops without rules in deeplift", "igtf/methods/relevance.py", "axis=subgraph.row_axis, reversible=True)", "axis=subgraph.row_axis)", ["tests/methods/test_relevance.py"]),
    ("functions called by their names left aside", "igtf/functions.py", "if kind in library and is_concrete(library[kind]):", "if False:", ["tests/test_replay.py"]),
    ("a softmax of six axes", "igtf/secant/softmax.py", "z.shape.rank <= 5", "z.shape.rank <= 9", [SOFTMAX]),
    ("words beside the rows on their axis", "igtf/probes.py", "if None not in inner and alone", "if None not in inner", [POINTS]),
    ("ties as winners", "igtf/probes.py", "(best + best * one - 1) / 2", "best - 0.5", [POINTS]),
    ("shapes that the graph computes left aside", "igtf/rows/tracker.py", "if op.type == \"Reshape\":", "if op.type == \"\":", ["tests/rows/test_inside_rows.py"]),
    ("no way off the ends where values jump", "igtf/points.py", "INSIDE = 1e-6", "INSIDE = 0.0", [POINTS]),
    ("stopped kinks counted", "igtf/subgraph.py", "if op.type not in BARRIERS and any(t.ref() in live for t in op.outputs):", "if any(t.ref() in live for t in op.outputs):", [POINTS]),
    ("jumps not counted", "igtf/subgraph.py", "self.jumps = any(", "self.jumps = False and any(", [POINTS]),
    ("no windows among the maps", "igtf/points.py", "costs = np.concatenate([costs, dense + BENT_COST * rate / steps], 1)", "costs = np.concatenate([costs, dense + 9], 1)", [POINTS]),
    ("batch norm in training mode let through", "igtf/rows/tracker.py", "        self.refuse(op)\n\n    def refuse", "        return LOST\n\n    def refuse", [SUBGRAPH]),
    ("dropout let through", "igtf/subgraph.py", "if not fixed or (off is False and not is_conditional(op)):", "if False:", [SUBGRAPH]),
    ("steps until the error is large", "igtf/refinement.py", "active = errors > tolerance", "active = errors < tolerance", [REFINEMENT]),
    ("steps until the error is less than the tolerance", "igtf/refinement.py", "active = errors > tolerance", "active = errors >= tolerance", [REFINEMENT]),
    ("a row done when one of its columns is", "igtf/refinement.py", "else tf.reduce_any(active, axis=1)", "else tf.reduce_all(active, axis=1)", [REFINEMENT]),
    ("errors that cancel", "igtf/refinement.py", "tf.cast(sum_features(tf.abs(t)), dtype) for t in tensors", "tf.cast(tf.abs(sum_features(t)), dtype) for t in tensors", [REFINEMENT]),
    ("errors of all rows together", "igtf/refinement.py", "gap, jumps = safe_ratio(change, size)", "gap, jumps = safe_ratio(0 * change + tf.reduce_sum(change), size)", [REFINEMENT]),
    ("results put to other rows", "igtf/refinement.py", "tf.tensor_scatter_nd_update(old, index[:, None], new)", "tf.tensor_scatter_nd_update(old, index[::-1, None], new)", [REFINEMENT]),
    ("rows that are done go on", "igtf/refinement.py", "return tf.where(right_pad(active[None], old)[0], new, old)", "return new", [REFINEMENT]),
    ("the path of other rows", "igtf/path_integral.py", "part.path = self.path if rows is None else self.path.of_rows(rows)", "part.path = self.path if rows is None else self.path.of_rows(rows[::-1])", [REFINEMENT]),
    ("the coarser sum forgotten", "igtf/refinement.py", "found = [o + n for o, n in zip(old, new)]", "found = new", [REFINEMENT]),
    ("the points of a level met twice", "igtf/levels.py", "points[_places(points, full[level - 1][0]) < 0]", "points", [REFINEMENT]),
    ("no floor of rounding", "igtf/refinement.py", "size = tf.maximum(_sizes(new, units, dtype), take(floor))", "size = _sizes(new, units, dtype)", [REFINEMENT]),
    ("an order that rules of points have not", "igtf/refinement.py", "self.least_of_jumps = self.least if secant else self.one", "self.least_of_jumps = self.least", [REFINEMENT]),
    ("a small change believed", "igtf/refinement.py", "tf.maximum(error, self.luck[level] * last)", "error", [REFINEMENT]),
    ("the change for what is left", "igtf/refinement.py", "error = gap * left / (1 - left)", "error = gap * left", [REFINEMENT]),
    ("completeness with the wrong sign", "igtf/convergence.py", "total -= tf.cast(sum_features(change), total.dtype)", "total += tf.cast(sum_features(change), total.dtype)", [ATTRIBUTIONS]),
    ("Rescale without its guard", RELEVANCE, "near = tf.abs(change) <= 1e-5", "near = tf.abs(change) < 0", [OF_RELEVANCE]),
    ("the stabilizer of LRP with one sign", RELEVANCE, "tf.where(z >= 0, epsilon, -epsilon)", "epsilon", [OF_RELEVANCE]),
    ("saliency with its sign", GRADIENTS, "result = [tf.abs(grad) for grad in grads]", "result = list(grads)", [OF_GRADIENTS]),
    ("occlusion not shared by the windows", PERTURBATION, "total / tf.constant(grid.covers * starts.count, total.dtype)", "total / starts.count", [OF_PERTURBATION]),
    ("Shapley credits of the order before", PERTURBATION, "tf.cast(tf.equal(turn, now), after.dtype)", "tf.cast(tf.equal(turn, now + 1), after.dtype)", [OF_PERTURBATION]),
    ("groups not shared by their features", GROUPS, "shares = tf.math.divide_no_nan(totals, self.sizes(totals.dtype))", "shares = totals", [OF_GROUPS]),
    ("the size of a group in one input alone", GROUPS, "total += tf.reshape(sums", "total = tf.reshape(sums", [OF_GROUPS]),
    ("an axis of size 1 for one feature", GROUPS, "[tf.cast(one, dtype) * tf.ones_like(ids, dtype)", "[tf.ones_like(ids, dtype)", [OF_GROUPS]),
    ("the first baseline for all of a set", GROUPS, "some[number % self.count]", "some[0]", [OF_GROUPS]),
    ("ids of a tensor unchecked", GROUPS, "tf.reduce_all((ids >= 0) & (ids < self.count))", "tf.reduce_all(ids >= 0)", [OF_GROUPS]),
    ("kernel SHAP with the weights of sizes alone", COALITIONS, "m / math.comb(groups, s) for s, m", "m for s, m", [OF_COALITIONS]),
    ("coalitions without their complements", COALITIONS, "halves = [kept, tf.logical_not(kept)]", "halves = [kept, kept]", [OF_COALITIONS]),
    ("equal shares for groups that are not there", COALITIONS, "present = tf.cast(groups.sizes(tf.float64) > 0, tf.float64)", "present = tf.cast(groups.sizes(tf.float64) > -1, tf.float64)", [OF_COALITIONS]),
    ("draws beyond the last pair counted", COALITIONS, "tf.where(pair < self.count, weight, tf.zeros([], tf.float64))", "weight", [OF_COALITIONS]),
    ("draws by block", COALITIONS, "uniform([1 + self._groups], self._seed, draw)", "uniform([1 + self._groups], self._seed, draw - pair[0])", [OF_COALITIONS]),
    ("subsets of one size too many", COALITIONS, "self._drawn = shares[len(self._complete) :]", "self._drawn = shares", [OF_COALITIONS]),
    ("Grad-CAM without its ReLU", MAPS, "result = tf.nn.relu(total)", "result = total", [OF_MAPS]),
    ("maps resized from their corners", MAPS, "tensor.dtype) + 0.5) * step - 0.5", "tensor.dtype)) * step", [OF_MAPS]),
    ("LayerCAM with gradients of both signs", MAPS, "xs, grad_ys, name, tf.nn.relu)", "xs, grad_ys, name, tf.identity)", [OF_MAPS]),
    ("guided backpropagation unguided", MAPS, "own_gradient(op, [tf.nn.relu(grads[0])])", "own_gradient(op, [grads[0]])", [OF_MAPS]),
    ("segments ranked by their sum", AREAS, "sums / np.maximum(sizes, 1), -np.inf", "sums, -np.inf", [OF_AREAS]),
    ("pixels of segments counted twice", AREAS, "added = masks[best] & left", "added = masks[best]", [OF_AREAS]),
    ("an area that carries less", AREAS, "(m > 0) & (m >= regions", "(m > 0) & (m > regions", [OF_AREAS]),
    ("the first layer with spatial axes", "igtf/explainer/layers.py", "return max(found, key", "return min(found, key", ["tests/explainer/test_groups_and_areas.py"]),
    ("black alone for XRAI", "igtf/explainer/explainer.py", "images.max(axes, keepdims=True)])", "images.min(axes, keepdims=True)])", ["tests/explainer/test_groups_and_areas.py"]),
    ("expected gradients without the mean", SAMPLING, "chosen = uniform(rows, seed, 2 * draw, maxval", "chosen = 0 * uniform(rows, seed, 2 * draw, maxval", [OF_SAMPLING]),
    ("the same noise for every copy", SAMPLING, "seed, copy * inputs + i)", "seed, i)", [OF_SAMPLING]),
    ("slopes of steps that are not there", "igtf/adaptation.py", "change = tf.where(inside, change, 0)", "change = change + 0", [ADAPTATION]),
    ("slopes that cancel", "igtf/adaptation.py", "tf.reduce_sum(tf.abs(slopes[1:] - slopes[:-1]), axis=2)", "tf.abs(tf.reduce_sum(slopes[1:] - slopes[:-1], axis=2))", [ADAPTATION]),
    ("base values at the inputs", "igtf/explainer/outputs.py", "base = total(graph_replace(ys, flat, before)) if", "base = total(ys) if", ["tests/explainer/test_explanation.py"]),
    ("weights taken for a class", "igtf/explainer/outputs.py", "tf.equal(tf.reduce_max(weight, 1), 1) & tf.equal(sizes, 1)", "tf.equal(sizes, sizes)", ["tests/explainer/test_explanation.py"]),
    ("tokens of other rows", "igtf/explainer/explanation.py", "names = [names[i] for i in chosen]", "names = list(names)", ["tests/explainer/test_explanation.py"]),
    ("tails by whoever moves", "igtf/probes.py", "return tf.where(far[None, :, None], seen[start:stop], line)", "return tf.where(tf.reduce_any(far), seen[start:stop], line)", ["tests/test_probes.py"]),
    ("tails by the middle", "igtf/probes.py", "tf.abs(values[1::2] - values[::2]) > FAR", "tf.abs(values[1:-1] - values[1:-1]) > FAR", ["tests/test_probes.py"]),
    ("points that follow nothing", "igtf/adaptation.py", "tf.where(whole > 0, probed + FOLLOWED * (share - probed), probed)", "probed", [ADAPTATION]),
    ("slopes not by the width of steps", "igtf/block.py", "total = safe_ratio(total, tf.cast(width, total.dtype))", "total = total * 1.0", [ADAPTATION]),
    ("a path by its time alone", "igtf/paths.py", "if tensor.ref() in varying else tf.zeros_like(x)", "if tensor.ref() in varying else tf.ones_like(x)", [PATHS]),
    ("points of the row beside", "igtf/paths.py", "at * rows + row_numbers", "at * rows + row_numbers[::-1]", [PATHS]),
    ("pieces from their end", "igtf/paths.py", "for at in (place, place + 1)", "for at in (place + 1, place)", [PATHS]),
    ("a blur that stays", "igtf/paths.py", "float(max_sigma) * (1 - widen(", "float(max_sigma) * (2 - widen(", [PATHS]),
    ("words with the others missing", "igtf/paths.py", "before[number] = tf.where(mine, start, x)", "before[number] = tf.where(mine, x, start)", [PATHS]),
    ("features of large slopes first", "igtf/guided.py", "rest = tf.where(waiting, slope, np.inf)", "rest = tf.where(waiting, -slope, np.inf)", [GUIDED]),
    ("one feature more at once", "igtf/guided.py", "most = self.fraction * (count - 1)", "most = self.fraction * (count - 1) + 1", [GUIDED]),
    ("features left behind", "igtf/guided.py", "point = tf.where(gone < low, latest, point)", "point = point + 0", [GUIDED]),
    ("interactions without the diagonal", "igtf/interactions.py", "found += tf.one_hot(chosen, count, dtype=dtype) * (straight * change)[:, None]", "found += 0", [INTERACTIONS]),
    ("the time of one integral for two", "igtf/interactions.py", "return curved + share * time * rows", "return curved + share * rows", [INTERACTIONS]),
    ("a kink for a soft one", "igtf/interactions.py", "return tf.nn.softplus(beta * z) / beta", "return tf.nn.relu(z)", [INTERACTIONS]),
    ("a unit for the whole layer", "igtf/path_integral.py", "split_rows(grad, self.per_block) * tf.cast(share, grad.dtype)", "split_rows(grad, self.per_block)", [CONDUCTANCE]),
    ("the least important features first", CURVES, 'direction="DESCENDING"', 'direction="ASCENDING"', [OF_CURVES]),
    ("insertion as deletion", CURVES, "if taken else (x, b)", "if taken else (b, x)", [OF_CURVES]),
    ("areas without the trapezoids at their ends", CURVES, "- (curves[:, 0] + curves[:, -1]) / 2)", "- curves[:, 0])", [OF_CURVES]),
    ("groups without features among the others", CURVES, "tf.where(present, values, low)", "values + 0 * low if False else values", [OF_CURVES]),
    ("shares of features rounded down", CURVES, "* counts + whole) // (2 * whole)", "* counts) // (2 * whole)", [OF_CURVES]),
    ("scores of what is not finite", "igtf/evaluation/common.py", "known &= tf.reduce_all(finite", "known |= tf.reduce_all(finite", [OF_CURVES]),
    ("the first of a set of baselines alone", "igtf/evaluation/common.py", "[total + function(i + 1)]", "[total + function(0)]", [OF_CURVES]),
    ("entries once for each of a group's channels", "igtf/methods/groups.py", "* tf.cast(share, value.dtype))", "* tf.cast(1, value.dtype))", [OF_FIDELITY]),
    ("metrics without the baselines of the attributions", "igtf/explainer/judge.py", "values.update(baselines=starts,", "values.update(baselines=None,", ["tests/explainer/test_evaluation.py"]),
    ("metrics of another output", "igtf/explainer/judge.py", "grad_ys=weights, builder=explain)", "grad_ys=None, builder=explain)", ["tests/explainer/test_evaluation.py"]),
    ("channels that are not summed", "igtf/explainer/judge.py", "if self._reducer is None or a.shape.rank", "if True or a.shape.rank", ["tests/explainer/test_evaluation.py"]),
    ("weights that stay shuffled", "igtf/explainer/randomization.py", "for variable, value in before:\n            variable.assign(value)", "pass", ["tests/explainer/test_randomization.py"]),
    ("weights that come back if nothing happens", "igtf/explainer/randomization.py", "    finally:\n", "    except AssertionError:\n        pass\n    else:\n", ["tests/explainer/test_randomization.py"]),
    ("layers from the bottom", "igtf/explainer/randomization.py", "_own(layer) for layer in inside[::-1]", "_own(layer) for layer in inside", ["tests/explainer/test_randomization.py"]),
    ("what shuffled weights predict", "igtf/explainer/trials.py", "return chosen if chosen.shape[1] else targets", "return targets", ["tests/explainer/test_randomization.py"]),
    ("ranks of ties by their place", "igtf/explainer/comparison.py", "np.cumsum(counts) - counts / 2", "np.cumsum(counts) - counts", ["tests/explainer/test_evaluation.py"]),
    ("intervals that are not paired", "igtf/explainer/evaluation.py", "apart = np.asarray(ours, np.float64) - theirs", "apart = np.asarray(ours, np.float64) - np.roll(theirs, 1)", ["tests/explainer/test_evaluation.py"]),
    ("a winner by its mean", "igtf/explainer/evaluation.py", "if sign and (low > 0 or high < 0):", "if sign:", ["tests/explainer/test_evaluation.py"]),
    ("tails of twice the size", "igtf/explainer/comparison.py", "tails = (1 - confidence) / 2", "tails = (1 - confidence) * 2", ["tests/explainer/test_evaluation.py"]),
    ("the best factor the other way round", "igtf/evaluation/fidelity.py", "tf.math.divide_no_nan(*best)", "tf.math.divide_no_nan(*best[::-1])", [OF_FIDELITY]),
    ("equal ranks by their place", "igtf/evaluation/fidelity.py", 'for side in ("left", "right")]', 'for side in ("left", "left")]', [OF_FIDELITY]),
    ("correlations of rounding", "igtf/evaluation/fidelity.py", "> rounding**2 * (tf.square(values) + size**2)", "> 0 * size", [OF_FIDELITY]),
    ("contributions where slopes are given", "igtf/evaluation/changes.py", "step = tf.math.divide_no_nan(step, widen(difference(x, starts[i])))", "step = step + 0", [OF_FIDELITY]),
    ("the noise of every row its own", "igtf/evaluation/changes.py", "[1, *shape_of(x)[1:]], seed", "shape_of(x), seed", [OF_FIDELITY]),
    ("the same subset again", "igtf/evaluation/changes.py", "uniform([units.count], seed, number)", "uniform([units.count], seed, 0)", [OF_FIDELITY]),
    ("highlights of negative attributions", "igtf/evaluation/highlights.py", "lit = list(map(tf.nn.relu, flat))", "lit = list(map(tf.abs, flat))", [OF_FIDELITY]),
    ("the last distance for the largest", "igtf/evaluation/robustness.py", "return [tf.maximum(most, norms(", "return [tf.maximum(0 * most, norms(", ["tests/evaluation/test_robustness.py"]),
    ("sparseness of signed numbers", "igtf/evaluation/maps.py", "sizes = [tf.abs(widen(a))", "sizes = [tf.nn.relu(widen(a))", ["tests/evaluation/test_maps.py"]),
    ("any tie a hit", "igtf/evaluation/maps.py", "tf.reduce_sum(best * inside, 1), tf.reduce_sum(best, 1))", "tf.reduce_max(best * inside, 1), tf.reduce_max(best, 1))", ["tests/evaluation/test_maps.py"]),
    ("maps of a page rounded down", PAGE + "encode.py", "codes = np.rint(values / scale * LEVELS)", "codes = np.floor(values / scale * LEVELS)", [OF_PAGE + " -k quantum"]),
    ("what is NaN on a page shown as 0", PAGE + "encode.py", "np.where(np.isnan(values), NAN, codes)", "np.where(np.isnan(values), 0, codes)", [OF_PAGE + " -k quantum"]),
    ("low and high bytes not parted on a page", PAGE + "encode.py", "return halves.T.tobytes(), scale", "return halves.tobytes(), scale", [OF_PAGE + " -k float16"]),
    ("markup of the data let through a page", PAGE + "encode.py", "(value, allow_nan=False, separators=(\",\", \":\")).replace(\"<\", \"\\\\u003c\")", "(value, allow_nan=False, separators=(\",\", \":\"))", [OF_PAGE + " -k markup"]),
    ("maps of classes on a page taken for channels", PAGE + "kinds.py", "array.shape[-1] in (1, 3) or not several", "True", [OF_PAGE + " -k square"]),
    ("the class of a sigmoid on a page by its number", PAGE + "outcomes.py", "np.full([count, 1], 1) if known.binary else known.guesses[:, None]", "known.guesses[:, None]", [OF_PAGE + " -k probability"]),
    ("a page that never ends", PAGE + "writer.py", "> LARGEST:", "> 10 * LARGEST:", [OF_PAGE + " -k several"]),
    ("a half written page left behind", PAGE + "writer.py", "_part(path).unlink(missing_ok=True)", "pass", [OF_PAGE + " -k failure"]),
    ("a swarm that hides how many rows there are", DATASETS, "((turn + 1) // 2) * wider", "((turn + 1) // 2)", [OF_DATASETS]),
    ("what is not attributed left out of a waterfall", DATASETS, "> 0.005 * np.ptp(levels)", "> 1e9", [OF_DATASETS]),
    ("blue bars on the red ones", DATASETS, "panel.barh(place, right, left=left,", "panel.barh(place, right,", [OF_DATASETS]),
    ("features that have no line forgotten", "igtf/visualization/figures.py", "return np.append(columns[..., kept], rest, axis=-1) if len(others)", "return np.append(columns[..., kept], 0 * rest, axis=-1) if len(others)", [OF_DATASETS]),
    ("stretches of colour half a step late", SERIES, "np.concatenate([2 * where[:1] - middles[:1], middles, 2", "np.concatenate([where[:1], where[1:], 2", [OF_SERIES]),
    ("sums in the place of means of stretches", SERIES, "values / counts.repeat(counts).reshape(shape)", "values", [OF_SERIES]),
    ("the first series for all", SERIES, "series[k % len(series)]", "series[0]", [OF_SERIES]),
    ("a word that stands twice counted once", SUMMARY, "found.get(number, 0.0) + value", "value", [OF_PICTURES]),
    ("rows that are not finite counted", SUMMARY, "rows[:, None] - sums[4], 1)", "rows[:, None], 1)", [OF_PICTURES]),
    ("padding beside the words of a row", "igtf/explainer/pictures.py", "row[: len(tokens)]) for row", "row) for row", [OF_PICTURES]),
    ("always the first of the outputs", "igtf/explainer/explanation.py", "_each(lambda a: a[:, column], ", "_each(lambda a: a[:, 0], ", [OF_PICTURES]),
    ("a box chosen anew at every step", OPERATORS, "return ys, tf.cast(anchors, ys.dtype)[:, :, None] * columns[:, None, :]", "return tf.reduce_sum(ys * tf.cast(anchors, ys.dtype)[:, :, None] * columns[:, None, :], [1, 2])", [OF_OPERATORS]),
    ("the box that overlaps least", OPERATORS, "return tf.argmax(shares, 1,", "return tf.argmin(shares, 1,", [OF_OPERATORS]),
    ("the sum over a segment", OPERATORS, "mask = mask / tf.reshape(size, [-1, *alone])", "mask = tf.identity(mask)", [OF_OPERATORS]),
    ("what is to be rebuilt held fixed", OPERATORS, 'xs = _single("reconstruction", inputs, 2)', 'xs = tf.stop_gradient(_single("reconstruction", inputs, 2))', [OF_OPERATORS]),
    ("numbers of boxes unchecked", OPERATORS, "checks.append(tf.debugging.assert_less(numbers, count, message))", "pass", [OF_OPERATORS]),
    ("deltas of padding on a page", "igtf/explainer/pages.py", "delta - maps[..., count:].sum(-1)", "delta", ["tests/explainer/test_explainer_pages.py -k words"]),
    ("a class that a request asks for forgotten", SERVING, "[tf.where(chosen < 0, best, chosen)]", "[best]", [OF_SERVING + " -k own_class"]),
    ("class numbers that are not there let through", SERVING, "tf.reduce_all(chosen < self._classes)", "tf.reduce_all(chosen < 99)", [OF_SERVING + " -k wrong_requests"]),
    ("requests that broadcast", SERVING, "[tf.ensure_shape(request[name], spec.shape) for", "[request[name] for", [OF_SERVING + " -k wrong_requests"]),
    ("baselines of other rows let through", SERVING, "tf.debugging.Assert((count == 1) | (count == wanted), said)", "tf.debugging.Assert(count > 0, said)", [OF_SERVING + " -k wrong_requests"]),
    ("the sum over several stored baselines", SERVING, "total / tf.cast(len(starts), total.dtype)", "total", [OF_SERVING + " -k every_class"]),
    ("zeros for the stored baseline", SERVING, "self._starts or [[_zeros(x) for x in inputs]]", "[[_zeros(x) for x in inputs]]", [OF_SERVING + " -k class_is"]),
    ("tables left behind", SERVING, "        module.model = model\n", "        pass\n", [OF_SERVING + " -k tables"]),
    ("rows that fail left out", CLUSTER, "[blank if results is None else results for results in found]", "[results for results in found if results is not None]", [OF_CLUSTER + " -k right_row"]),
    ("columns in another order", CLUSTER, "[_array(batch, name) for name in columns]", "[_array(batch, name) for name in sorted(columns)]", [OF_CLUSTER + " -k side_by_side"]),
    ("files with code trusted", CLUSTER, "safe_mode=safe_mode", "safe_mode=False", [OF_CLUSTER + " -k trusted"]),
    ("the prior in validation", KERAS, "if self._prior is None or self._judging:", "if self._prior is None:", [OF_KERAS + " -k validation"]),
    ("a prior on the network as it trains", KERAS, "model(x, training=False), wanted", "model(x, training=True), wanted", [OF_KERAS + " -k inference"]),
    ("neighbours along one axis", KERAS, "range(1 - rank, -1)", "[-2]", [OF_KERAS + " -k smoothness"]),
    ("an epoch too early", KERAS, "if (epoch + 1) % self._every:", "if epoch % self._every:", [OF_KERAS + " -k few_epochs"]),
    ("pieces that go on with a word begin one", LANGUAGE + "tokens.py", "starts = not continues if suffix else", "starts = continues if suffix else", [OF_TOKENS]),
    ("bytes of characters in another alphabet", LANGUAGE + "tokens.py", "{chr(256 + i): n for i, n in enumerate(others)}", "{chr(257 + i): n for i, n in enumerate(others)}", [OF_TOKENS]),
    ("sentences without their ends", LANGUAGE + "tokens.py", "begins.append(piece.special or (ended and piece.starts))", "begins.append(piece.special or piece.starts)", [OF_TOKENS]),
    ("special tokens of the baseline replaced", LANGUAGE + "runner.py", "[np.array([self.special or not p.special for p in some], bool)", "[np.array([True for p in some], bool)", [OF_TEXTS + " -k brute_force"]),
    ("tokens explained at the place after theirs", LANGUAGE + "graph.py", 'at_positions(logits, ids, choice["places"])', 'at_positions(logits, ids, tf.maximum(choice["places"] - 1, 0))', [OF_GENERATION + " -k contrasts"]),
    ("the rival added", LANGUAGE + "graph.py", 'ys -= tf.gather(found, choice["rivals"], batch_dims=2)', 'ys += tf.gather(found, choice["rivals"], batch_dims=2)', [OF_GENERATION + " -k contrasts"]),
    ("numbers of places taken for embeddings", LANGUAGE + "network.py", '"AddV2 Cast ExpandDims Identity', '"AddV2 Cast Cumsum NotEqual ExpandDims Identity', ["tests/language/test_language_layers.py -k otherwise"]),
    ("the mean of another axis of the table", LANGUAGE + "network.py", "return tf.reduce_mean(table, axis=0)", "return tf.reduce_mean(table) + 0 * table[0]", [OF_TEXTS + " -k mean_of_all"]),
    ("cells of later words in colour", "igtf/visualization/token_matrix.py", "np.tri(len(continuation)).T", "np.tri(len(continuation), k=-1).T", [OF_MATRIX]),
]  # fmt: skip


def check():
    """The mutations whose text is not found exactly once."""
    texts = {name: (ROOT / name).read_text("utf-8") for name in {m[1] for m in MUTATIONS}}
    return [(m[0], texts[m[1]].count(m[2])) for m in MUTATIONS if texts[m[1]].count(m[2]) != 1]


def caught(copy, mutation):
    """Whether a test fails in `copy` once it is broken."""
    _, name, text, replacement, tests = mutation
    path = copy / name
    whole = path.read_text("utf-8")
    path.write_text(whole.replace(text, replacement), "utf-8")
    try:
        for test in tests:
            command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *test.split()]
            done = subprocess.run(
                command, cwd=copy, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(copy)}
            )
            if done.returncode == 1:
                failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
                return failed[0].split(" - ")[0].split(" ", 1)[1] if failed else test
            if done.returncode:
                raise RuntimeError(f"{test} did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    finally:
        path.write_text(whole, "utf-8")
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="run the mutations whose name contains this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    parser.add_argument("--list", action="store_true", help="run none")
    options = parser.parse_args()
    missing = check()
    for name, count in missing:
        print(f"{name}: its text is there {count} times, expected once", file=sys.stderr)
    if missing:
        return 2
    chosen = [m for m in MUTATIONS if options.only in m[0]]
    if options.list:
        for number, mutation in enumerate(chosen, 1):
            print(f"{number}. {mutation[0]} ({mutation[1]})")
        return 0
    copies = queue.Queue()
    ignored = shutil.ignore_patterns(".git", ".venv*", "build", "__pycache__", ".hypothesis", "*.egg-info")

    def work(mutation):
        copy = copies.get()
        try:
            return mutation[0], caught(copy, mutation)
        finally:
            copies.put(copy)

    survived = []
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(options.jobs) as pool:
        for job in range(options.jobs):
            copies.put(Path(shutil.copytree(ROOT, Path(directory) / str(job), ignore=ignored)))
        for number, (name, by) in enumerate(pool.map(work, chosen), 1):
            survived += [] if by else [name]
            print(f"{number}. {name}: {'caught by ' + by if by else 'SURVIVED'}", flush=True)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} caught")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
