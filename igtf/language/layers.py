"""Conductance of the layers of a language model, for each word or for each head."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from igtf.language.explanations import LayerScores
from igtf.language.graph import Setup
from igtf.language.runner import Reading, Runner

__all__ = ["conductances"]


def conductances(
    runner: Runner,
    setup: Setup,
    explained: Any,
    choice: dict[str, np.ndarray],
    reading: Reading,
    names: Sequence[Any],
    heads: bool,
    progress: bool,
) -> LayerScores:
    """Those of the named layers, one after the other."""
    network, rows = setup.network, []
    layers = [network.layer(name) for name in names]
    bar = tf.keras.utils.Progbar(len(layers), unit_name="layer") if progress else None
    for layer in layers:
        source = network.attention(layer) if heads else layer
        found = runner.run(
            explained, f"conductance {len(choice)}", [reading], choice, layer=source, heads=heads, setup=setup
        )
        scores = found["scores"][0]
        rows.append(scores[0] if heads else reading.sums(_at_inputs(layer, reading, scores))[0])
        if bar:
            bar.add(1)
    labels = [layer.name for layer in layers]
    tokens = None if heads else reading.labels
    output, base = float(found["outputs"][0, 0]), float(found["base_values"][0, 0])
    return LayerScores(labels, tokens, np.stack(rows), output, base)


def _at_inputs(layer, reading, scores):
    """Scores `[C, T]` of the places of a layer in the place of those of all inputs."""
    lengths, width = reading.encoded.lengths, scores.shape[1]
    fitting = [n for n, length in enumerate(lengths) if length == width]
    if not fitting:
        raise ValueError(
            f"TextExplainer.conductance: layer {layer.name!r} has {width} places and the text {lengths}, "
            "expected one for each token. Name a layer that returns [B, T, units], or pass heads=True."
        )
    which = fitting[-1 if "decoder" in layer.name else 0]
    before, after = sum(lengths[:which]), sum(lengths[which + 1 :])
    return np.pad(scores, [(0, 0), (before, after)])
