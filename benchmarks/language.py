"""The explanation of a continuation, beside Captum's LLMGradientAttribution on the same GPT-2 weights.

A GPT-2 of random weights in PyTorch (transformers), and the same weights in TensorFlow. Both take integrated
gradients of the log-probability of each token of a continuation by the embeddings of all tokens before it.
Captum takes a path for each token, on which the continuation so far is fixed; here all tokens are explained
from one path, and what was said before them has a share. The error of each is that against more steps of its
own, relative to the sum of the magnitudes. Prints Markdown; progress goes to standard error.

    python benchmarks/language.py [--layers 2] [--prompt 32] [--tokens 8] [--steps 50]
"""

import argparse
import re

import measure  # first: it sets what TensorFlow reads
import numpy as np
import tensorflow as tf
import torch
from captum.attr import LayerIntegratedGradients, LLMGradientAttribution, TextTokenInput
from transformers import GPT2Config, GPT2LMHeadModel

from igtf.language import TextExplainer

VOCABULARY, WIDTH, HEADS = 5000, 256, 4
REFERENCE = 4  # times as many steps


class Numbers:
    """A tokenizer of numbers, for both."""

    def __call__(self, text, **options):
        places = [match.span() for match in re.finditer(r"\d+", text)]
        return {"input_ids": self.encode(text), "offset_mapping": places}

    def encode(self, text, return_tensors=None, **options):
        ids = [int(word) for word in text.split()]
        return torch.tensor([ids]) if return_tensors else ids

    def decode(self, ids, **options):
        return "".join(f" {int(i)}" for i in np.reshape(ids, -1))

    def convert_ids_to_tokens(self, ids):
        return [str(int(i)) for i in ids] if np.ndim(ids) else str(int(ids))

    def convert_tokens_to_ids(self, tokens):
        return [int(token) for token in tokens]


def in_tensorflow(network):
    """The same network as a function of ids `[B, T]`."""
    weights = {name: tf.constant(value.numpy()) for name, value in network.state_dict().items()}

    def dense(x, name):
        return x @ weights[name + ".weight"] + weights[name + ".bias"]

    def normal(x, name):
        mean, variance = tf.nn.moments(x, -1, keepdims=True)
        x = (x - mean) * tf.math.rsqrt(variance + 1e-5)
        return x * weights[name + ".weight"] + weights[name + ".bias"]

    def attention(x, name):
        size = [tf.shape(x)[0], x.shape[1], HEADS, WIDTH // HEADS]
        query, key, value = (tf.reshape(part, size) for part in tf.split(dense(x, name + ".c_attn"), 3, -1))
        scores = tf.einsum("bqhd,bkhd->bhqk", query, key) / (WIDTH // HEADS) ** 0.5
        mask = np.tri(x.shape[1], dtype="float32")
        mixed = tf.einsum("bhqk,bkhd->bqhd", tf.nn.softmax(scores - 1e9 * (1 - mask)), value)
        return dense(tf.reshape(mixed, [size[0], size[1], WIDTH]), name + ".c_proj")

    def model(ids):
        x = tf.gather(weights["transformer.wte.weight"], ids)
        x += weights["transformer.wpe.weight"][: ids.shape[1]]
        for n in range(network.config.n_layer):
            block = f"transformer.h.{n}"
            x += attention(normal(x, block + ".ln_1"), block + ".attn")
            inside = tf.nn.gelu(dense(normal(x, block + ".ln_2"), block + ".mlp.c_fc"), approximate=True)
            x += dense(inside, block + ".mlp.c_proj")
        return tf.matmul(normal(x, "transformer.ln_f"), weights["transformer.wte.weight"], transpose_b=True)

    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=32, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=8, help="tokens of the continuation")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.manual_seed(0)
    config = GPT2Config(VOCABULARY, 256, WIDTH, args.layers, HEADS, initializer_range=0.1)
    network = GPT2LMHeadModel(config).eval()
    model, tokenizer = in_tensorflow(network), Numbers()
    draw = np.random.default_rng(0).integers(1, VOCABULARY, args.prompt + args.tokens)
    prompt, answer = (" ".join(map(str, part)) for part in np.split(draw, [args.prompt]))
    logits = network(torch.tensor(draw[None])).logits.detach().numpy()
    assert np.abs(model(tf.constant(draw[None])).numpy() - logits).max() < 1e-3  # the same weights indeed

    def captum(steps):
        method = LLMGradientAttribution(LayerIntegratedGradients(network, network.transformer.wte), tokenizer)
        text = TextTokenInput(prompt, tokenizer, baselines=0)
        # Its default batch holds all steps.
        found = method.attribute(text, target=torch.tensor(draw[args.prompt :]), n_steps=steps)
        return found.token_attr.numpy()

    def ours(steps):
        explainer = TextExplainer(model, tokenizer, num_steps=steps)
        return lambda: explainer.explain_generation(prompt, " " + answer, progress=False).scores

    functions = {"this project": ours(args.steps), "Captum": lambda: captum(args.steps)}
    more = {"this project": ours(REFERENCE * args.steps), "Captum": lambda: captum(REFERENCE * args.steps)}
    measure.progress("time")
    seconds = measure.interleaved(functions, args.rounds, budget=60)
    rows = []
    for name, function in functions.items():
        measure.progress(f"error of {name}")
        found, wanted = function(), more[name]()
        error = np.abs(found - wanted).sum() / np.abs(wanted).sum()
        rows.append(
            [name, f"{seconds[name]:.2f}", f"{seconds[name] / seconds['this project']:.1f}", f"{error:.1e}"]
        )
    print(
        f"GPT-2 of {args.layers} layers, width {WIDTH}; {args.prompt} tokens of prompt and {args.tokens} of "
        f"continuation, {args.steps} steps; {measure.machine()}\n"
    )
    print(measure.markdown(["library", "s", "times ours", "error"], rows))


if __name__ == "__main__":
    main()
