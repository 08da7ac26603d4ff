"""What the explanation of a continuation will cost: measured on one step, told before the others."""

import dataclasses
import time
from typing import Any

import tensorflow as tf

from igtf.language.encoding import Encoded
from igtf.language.generation import choice_of
from igtf.language.graph import next_tokens
from igtf.language.network import lookups
from igtf.language.runner import Runner
from igtf.levels import MOST_STEPS, STEPS

__all__ = ["Cost", "cost_of"]


@dataclasses.dataclass(frozen=True)
class Cost:
    """What an explanation will take on this machine, once it is traced.

    Attributes:
      seconds: for all tokens and steps.
      forward, backward: seconds of one run of the model over the text, and of one way back from a token.
      tokens, steps: of the continuation, and of the path (the most of them with a tolerance).
    """

    seconds: float
    forward: float
    backward: float
    tokens: int
    steps: int

    def __str__(self) -> str:
        amount, unit = next(
            (self.seconds / size, unit)
            for size, unit in ((3600, "h"), (60, "min"), (1, "s"))
            if self.seconds >= size or unit == "s"
        )
        return (
            f"about {amount:.2g} {unit}: {self.steps} steps, each forward ({self.forward:.2g} s) and "
            f"{self.tokens} times back ({self.backward:.2g} s)"
        )


def cost_of(runner: Runner, start: Encoded, ids: list[int], options: dict[str, Any]) -> Cost:
    """That of integrated gradients of every one of these ids after a text."""
    text = start.extended(ids[:-1])
    names = text.names

    def step(inputs, choice, back):
        looked_up = [inputs[name] for name in names]
        logits = runner.setup.network(inputs)
        ys, _ = next_tokens("log_prob", every=True)(logits, looked_up, choice)
        xs = [x for each in looked_up for x in lookups(ys, each)]
        return [tf.reduce_sum(g) for g in tf.gradients(ys[:, -1:], xs)] if back else [ys]

    inputs = {name: tf.constant(value[None]) for name, value in text.inputs.items()}
    chosen = {key: tf.constant(value) for key, value in choice_of(start, ids, None).items()}
    compiled = runner.setup.jit_compile or None
    function = tf.function(step, autograph=False, jit_compile=compiled)
    forward, both = (_seconds(function, inputs, chosen, back) for back in (False, True))
    backward = max(both - forward, 0.5 * forward)
    steps, count = options.get("num_steps") or (MOST_STEPS if options.get("tolerance") else STEPS), len(ids)
    return Cost(steps * (forward + count * backward), forward, backward, count, steps)


def _seconds(function, *arguments):
    """Of a run, the fastest of some, the first of which traces."""
    taken = []
    function(*arguments)
    while len(taken) < 2 or (sum(taken) < 1 and len(taken) < 10):
        start = time.perf_counter()
        [part.numpy() for part in function(*arguments)]
        taken.append(time.perf_counter() - start)
    return min(taken)
