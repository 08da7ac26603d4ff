"""Hidden layers: found where a model holds them, and what they return when it runs."""

import collections
import contextlib
import dataclasses
import functools
from typing import Any

import tensorflow as tf

from igtf.explainer.arrays import describe, expected, members, named_leaves
from igtf.traversal import ops_between

__all__ = [
    "Place",
    "all_layers",
    "calls_of",
    "check_apart",
    "hidden",
    "last_with_places",
    "read_by",
    "recorded",
    "recording",
    "the_call",
]


@dataclasses.dataclass(frozen=True, eq=False)
class Place:
    """A layer and which of its calls is meant, None for the only one."""

    layer: Any
    call: int | None = None


def all_layers(holder, seen=None):
    """The Keras layers in a model, in its layers, modules, lists and dicts, each once."""
    seen = {id(holder)} if seen is None else seen
    attributes = list(getattr(holder, "__dict__", {}).values())
    if isinstance(holder, (dict, list, tuple)):
        held = list(holder.values() if isinstance(holder, dict) else holder)
    elif hasattr(holder, "_flatten_layers"):
        held = [
            *getattr(holder, "layers", []),
            *holder._flatten_layers(recursive=False, include_self=False),
        ]
        held += [part for part in attributes if isinstance(part, tf.Module)]
    else:
        held = attributes
    for member in held:
        layer = hasattr(member, "_flatten_layers")
        if (layer or isinstance(member, (dict, list, tuple, tf.Module))) and id(member) not in seen:
            seen.add(id(member))
            if layer:
                yield member
            yield from all_layers(member, seen)


@contextlib.contextmanager
def recording(layers):
    """What Keras layers return while the model is traced, of ids or not: `{id(layer): [(outputs, ids)]}`."""
    seen = {id(layer): [] for layer in layers}
    before = {}
    try:
        for layer in layers:
            if id(layer) not in before:
                before[id(layer)] = layer.__dict__.get("call")
                layer.__dict__["call"] = _recorder(layer.call, seen[id(layer)])
        yield seen
    finally:
        for layer in layers:
            call = before.pop(id(layer), layer)
            if call is None:
                del layer.__dict__["call"]
            elif call is not layer:
                layer.__dict__["call"] = call


def _recorder(call, outputs):
    @functools.wraps(call)
    def record(*arguments, **options):
        result = call(*arguments, **options)
        read = [t for t in tf.nest.flatten(arguments) if isinstance(t, tf.Tensor)]
        outputs.append((result, bool(read) and all(t.dtype.is_integer for t in read)))
        return result

    return record


def recorded(seen):
    """What layers returned in this graph."""
    graph = tf.compat.v1.get_default_graph()
    flat = tf.nest.flatten(list(seen.values()))
    return [
        t for t in flat if isinstance(t, tf.Tensor) and getattr(t, "graph", None) is graph and t.shape.rank
    ]


_LayerCall = collections.namedtuple("_LayerCall", "outputs names inputs here of_ids")


def calls_of(model, layer, seen, inputs):
    """The calls of a layer while the model runs, in the order of its code as far as that can be told."""
    graph = tf.compat.v1.get_default_graph()
    leaves = named_leaves("inputs", inputs)
    calls = []
    for outputs, of_ids in seen[id(layer)]:
        flat = tf.nest.flatten(outputs)
        here = all(getattr(t, "graph", None) is graph for t in flat)
        read = read_by(flat, inputs) if here else []
        names = [name for name, x in leaves if any(x is one for one in read)]
        calls.append(_LayerCall(outputs, names, read, here, of_ids))
    inner = [call for call in calls if call.here]
    if not inner:
        return calls
    # A functional model runs its layers in an order of its own: back to that of its code, or of the inputs.
    for network in [model, *all_layers(model)]:
        by_depth = getattr(network, "_nodes_by_depth", {})
        made = getattr(layer, "_inbound_nodes", [])
        running = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
        order = [i for node in running for i, some in enumerate(made) if some is node]
        if len(order) == len(inner):
            return [call for _, call in sorted(zip(order, inner), key=lambda pair: pair[0])]
    names = [name for name, _ in leaves]
    return sorted(inner, key=lambda call: [names.index(name) for name in call.names])


def the_call(argument, place, calls):
    """What the layer returned at the call that is meant; of an embedding tied to the output, that on ids."""
    name, which = place.layer.name, place.call
    if which is None and argument == "layer" and sum(call.of_ids for call in calls) == 1:
        calls = [call for call in calls if call.of_ids]
    if len(calls) == 1 and which is None and calls[0].here:
        return calls[0].outputs
    if not calls or not calls[0].here:
        problem = "is called inside a tf.function of the model's own" if calls else "is not called"
        raise ValueError(
            f"Explainer: {argument} {name!r} {problem} when the model runs, expected one call. Name another "
            "layer, or call the graph functions inside a tf.function."
        )
    if which is not None and -len(calls) <= which < len(calls):
        return calls[which].outputs
    described = "; ".join(
        f"{i}: {describe(call.outputs)} from {', '.join(call.names) or 'nothing'}"
        for i, call in enumerate(calls)
    )
    several = "" if argument == "output_layer" else f", or a list for several: [({name!r}, 0), ...]"
    raise ValueError(
        f"Explainer: {argument} {name!r} is called {len(calls)} time{'s' * (len(calls) > 1)} when the model "
        f"runs ({described}), expected {'one call' if which is None else f'one of these and not {which}'}. "
        f"Choose: {argument}=({name!r}, 0){several}."
    )


def hidden(network, layer, inputs, seen):
    """The hidden tensors to explain, in the structure of `layer`, or of the inputs beside them."""

    def find(place, member=None):
        calls = calls_of(network.model, place.layer, seen, inputs)
        own = [call for call in calls if [id(x) for x in call.inputs] == [id(member)]]
        return the_call("layer", place, own if len(own) == 1 and place.call is None else calls)

    if not isinstance(layer, dict) or not tf.nest.is_nested(inputs):
        return tf.nest.map_structure(find, layer)
    names = network.names(inputs)
    for name in layer:
        if name not in names:
            raise ValueError(
                f"Explainer: layer has the key {name!r}, {expected(name, names)}: the model's inputs. "
                "For layers apart from inputs, pass a list of them."
            )
    wanted = dict(zip(names, members(inputs)))
    # Of a layer that is called for several inputs, the call for this one.
    wanted.update({name: find(place, wanted[name]) for name, place in layer.items()})
    if isinstance(inputs, dict):
        return wanted
    return list(wanted.values()) if isinstance(inputs, list) else tuple(wanted.values())


def check_apart(method, inputs, xs):
    """On one joint path nothing may be computed from the rest of it; conductance is of layers alone."""
    given = {x.ref() for x in tf.nest.flatten(inputs)}
    for x in xs:
        if method.on_input_path and x.ref() in given:
            raise ValueError(
                f"Explainer: layer leaves {x.name!r} an input, expected a layer in the place of every "
                f"floating input for {method.name}. Pass the layers alone, as a list."
            )
        if ops_between([x], [other for other in xs if other is not x]):
            raise ValueError(
                f"Explainer: layer asks for several tensors and {x.name!r} is computed from others of "
                "them, expected layers (and inputs beside them) that do not depend on one another: they "
                "move together. Explain them one at a time."
            )


def read_by(tensors, inputs):
    """The flat inputs that tensors are computed from, or are."""
    flat = tf.nest.flatten(tensors)
    return [x for x in tf.nest.flatten(inputs) if ops_between(flat, [x]) or any(t is x for t in flat)]


def last_with_places(function, model, ys, inputs, seen):
    """What the last layer with spatial axes returned, as many axes as an input has."""
    # Places are elsewhere behind these.
    moved = [seen[id(layer)] for layer in all_layers(model) if type(layer).__name__ in ("Permute", "Reshape")]
    moved = {t.ref() for t in tf.nest.flatten(moved) if isinstance(t, tf.Tensor)}
    order = {op: i for i, op in enumerate(ops_between(tf.nest.flatten(ys), tf.nest.flatten(inputs)))}
    ranks = {x.shape.rank for x in tf.nest.flatten(inputs)} - {None, 1, 2}
    found = [
        t
        for t in recorded(seen)
        if t.op in order and t.dtype.is_floating and t.shape.rank in ranks and t.ref() not in moved
        if any(size != 1 for size in t.shape.as_list()[1:-1])
    ]
    if not found:
        raise ValueError(
            "Explainer: layer is None and none was found that the outputs are computed from and that has "
            f"the axes of the inputs, {describe(inputs)}, expected one for {function}. Name it, layer=..., "
            f"or call igtf.{function} with its output inside a tf.function."
        )
    return max(found, key=lambda t: order[t.op])
