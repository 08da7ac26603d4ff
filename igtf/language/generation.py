"""The explanation of what a language model says: a row of scores for each token of the continuation."""

from typing import Any

import numpy as np
import tensorflow as tf

from igtf.arguments import is_int
from igtf.language.encoding import Encoded
from igtf.language.explanations import GenerationExplanation
from igtf.language.graph import next_tokens
from igtf.language.runner import Reading, Runner
from igtf.language.tokens import GROUPS, groups_of, label_of, labels_of

__all__ = [
    "choice_of",
    "continuation_groups",
    "continuation_of",
    "explained_generation",
    "joined_reading",
    "rivals_of",
]

FUNCTION = "TextExplainer.explain_generation"


def continuation_of(
    runner: Runner, model: Any, preprocessor: Any, prompt: str, given: Any, start: Encoded, longest: int
) -> list[int]:
    """The ids that a prompt goes on with: those that are given, as text or ids, or what the model says."""
    if isinstance(given, str):
        ids = runner.encoder.continuation(prompt, given)
    elif given is None:
        if not is_int(longest) or longest < 1:
            raise ValueError(f"{FUNCTION}: max_new_tokens is {longest!r}, expected a positive int.")
        sampled = preprocessor is not None and hasattr(model, "make_generate_function")
        ids = (_sampled if sampled else _likeliest)(runner, model, start, longest)
    else:
        ids = [runner.vocabulary.id_of("continuation", token) for token in given]
    if not ids:
        raise ValueError(
            f"{FUNCTION}: continuation has no tokens, expected at least one. Pass a text, or ids of what the "
            "model should be asked about."
        )
    return [int(i) for i in ids]


def _likeliest(runner, model, start, longest):
    ids: list[int] = []
    while len(ids) < longest and not (ids and ids[-1] in runner.vocabulary.ends):
        text = start.extended(ids)
        last = np.array([len(text.ids[-1]) - 1])
        ids.append(int(runner.logits(text, last)[0].argmax()))
    return ids


def _sampled(runner, model, start, longest):
    """What a model of KerasHub generates with its own sampler."""
    name = start.names[-1]
    before = len(start.inputs[name])
    size = 32 * -(-(before + longest) // 32)  # few lengths, as each is compiled
    filled = start.extended([runner.vocabulary.padding] * (size - before)).inputs
    mask = name.replace("token_ids", "padding_mask")
    filled[mask] = filled[mask] * (np.arange(size) < before)
    inputs = {
        k: tf.constant(v[None], tf.bool if k.endswith("padding_mask") else None) for k, v in filled.items()
    }
    made = model.make_generate_function()(inputs, stop_token_ids=list(runner.vocabulary.ends) or None)
    ids = np.asarray(made[name])[0]
    there = np.asarray(made[mask])[0].astype(bool)
    return ids[before : before + longest][there[before : before + longest]].tolist()


def rivals_of(runner: Runner, contrast: Any, start: Encoded, ids: list[int]) -> list[int]:
    """For each token the one that it is compared with: as given, or the likeliest other one."""
    if contrast is None:
        places = len(start.ids[-1]) - 1 + np.arange(len(ids))
        logits = runner.logits(start.extended(ids[:-1]), places)
        logits[np.arange(len(ids)), ids] = -np.inf
        return logits.argmax(-1).tolist()
    several = isinstance(contrast, (list, tuple, np.ndarray))
    if several and len(contrast) != len(ids):
        raise ValueError(
            f"{FUNCTION}: contrast holds {len(contrast)} tokens for a continuation of {len(ids)}, expected "
            "one for each, or a single one."
        )
    given = list(contrast) if several else [contrast] * len(ids)
    return [runner.vocabulary.id_of("contrast", token) for token in given]


def explained_generation(
    runner: Runner,
    start: Encoded,
    ids: list[int],
    target: str,
    rivals: list[int] | None,
    groups: Any,
    at_once: int,
    return_error: bool,
    progress: bool,
) -> GenerationExplanation:
    """The rows of scores of a continuation, `at_once` tokens in a run; `rivals` for a contrast."""
    prompt, parts, names = continuation_groups(runner, start, ids, groups)
    reading = joined_reading(runner, start, ids, prompt, parts)
    found = _matrix(runner, target, reading, choice_of(start, ids, rivals), at_once, return_error, progress)
    count = len(prompt.labels)
    columns = reading.sums(found["scores"][0])
    columns = np.pad(columns, [(0, 0), (0, count + len(names) - columns.shape[1])])
    rows = np.eye(len(names), dtype=columns.dtype)[parts].T  # which tokens a row sums up

    def of_rows(key):
        return rows @ found[key][0] if key in found else None

    scores, outputs, base_values = rows @ columns, of_rows("outputs"), of_rows("base_values")
    complete = runner.setup.method.complete and base_values is not None
    deltas = scores.sum(1) - (outputs - base_values) if complete else None
    errors = (
        np.array([found["errors"][0][parts == n].max() for n in range(len(names))]) if return_error else None
    )
    others = None
    if rivals is not None:
        texts = [label_of(runner.vocabulary.pieces([i])) for i in rivals]
        others = [" ".join(t for t, n in zip(texts, parts) if n == row) for row in range(len(names))]
    return GenerationExplanation(
        prompt.labels, names, scores, outputs, base_values, deltas, errors, target, others
    )


def continuation_groups(
    runner: Runner, start: Encoded, ids: list[int], groups: Any
) -> tuple[Reading, np.ndarray, list[str]]:
    """The prompt with its groups; the row of each token of the continuation, and the names of the rows."""
    prompt = runner.reading(start, groups)
    before = start.ids[-1]
    pieces = runner.vocabulary.pieces([*before, *ids])[len(before) :]
    pieces[0] = pieces[0]._replace(starts=True)
    named = isinstance(groups, str) and groups in GROUPS
    rows = groups_of(pieces, groups if named else "tokens" if callable(groups) else "words", special=True)
    return prompt, rows, labels_of(pieces, rows)


def joined_reading(
    runner: Runner, start: Encoded, ids: list[int], prompt: Reading, parts: np.ndarray
) -> Reading:
    """The prompt and what was said before the last token, whose groups come after those of the prompt."""
    text = start.extended(ids[:-1])
    pieces = [runner.vocabulary.pieces(each) for each in text.ids]
    groups = [*prompt.groups[:-1], np.concatenate([prompt.groups[-1], len(prompt.labels) + parts[:-1]])]
    return Reading(text, pieces, groups)


def choice_of(start: Encoded, ids: list[int], rivals: list[int] | None) -> dict[str, np.ndarray]:
    """What `next_tokens` takes: each token is said after the place before it."""
    places = len(start.ids[-1]) - 1 + np.arange(len(ids))
    choice = {"places": places, "tokens": ids, "rivals": rivals or ids}
    return {key: np.array(value, np.int32)[None] for key, value in choice.items()}


def _matrix(runner, target, reading, choice, at_once, return_error, progress):
    """Scores of every token `[1, C, T]`, and what goes with them."""
    count, every = choice["tokens"].shape[1], runner.setup.method.name == "integrated_gradients"
    parts = []
    starts = range(0, count, at_once) if every else range(count)
    bar = tf.keras.utils.Progbar(len(starts), unit_name="part") if progress else None
    for begin in starts:
        if every:
            chosen = {key: value[:, begin : begin + at_once] for key, value in choice.items()}
        else:
            chosen = choice | {"weights": np.eye(count, dtype=np.float32)[begin][None]}
        explained = next_tokens(target, every)
        parts.append(runner.run(explained, f"{target} {every}", [reading], chosen, return_error))
        if bar:
            bar.add(1)
    return {key: np.concatenate([part[key] for part in parts], 1) for key in parts[0]}
