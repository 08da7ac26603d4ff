"""How long integrated gradients take to be 1 % accurate: this project beside other libraries.

`make benchmark`, or `python benchmarks/time_to_accuracy.py` in an environment with
`benchmarks/requirements.txt`, writes `time_to_accuracy.md`, `.png` and `.json` to
`build/benchmarks/`; with `--publish` the first two to `docs/` as well.

For each of five trained networks and each library: the fewest steps whose mean relative L1 error
over 32 images, against a float64 reference of 6,400 steps computed by a plain loop, is at most 1 %;
then the time that takes. Each library integrates with the rule of its own that needs the fewest
steps, and computes in internal batches of the size that proved the quickest for it. Times are
medians of measurements taken in turns in one process, after everything is traced; the first call,
which traces, is listed beside them. `ten classes` is the time for the attributions of all ten
classes at the same number of steps.
"""

import argparse
import functools
import json
import time

import measure
import networks
import numpy as np
import peers
import tensorflow as tf

import igtf as ig

ROWS = (100, 400, 1600)  # through the network at once, where a library lets its user choose
GRID = sorted({round(2 ** (k / 2)) for k in range(2, 27)})  # 2 to 8192 steps, by factors of 1.4


def remembered(library, network, options, search):
    """What `search()` finds; for other libraries kept in `build/benchmarks/`, as it takes long."""
    if library == "this project":
        return search()
    path = measure.BUILD / "steps.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    asked = f"{options.batch} images, {options.target}, {options.most} steps at most"
    key = f"{network}-{networks.VERSION}: {library}: {versions([library])}: {asked}"
    if key not in known:
        known[key] = search()
        path.write_text(json.dumps(known, indent=1))
    return known[key]


class Search:
    """The error of one library on one network as a function of rule and steps, each run once."""

    def __init__(self, library, expected):
        self.library, self.expected = library, expected

    @functools.cache  # noqa: B019  (lives as long as the search)
    def error(self, rule, steps):
        return networks.error(self.library.prepare(rule, steps, 400)(), self.expected)

    def fewest_steps(self, rule, target, most):
        """The first of `GRID` that reaches the target, then bisection below it, or `None`."""
        below = GRID[0] - 1
        for steps in GRID:
            if steps > most:
                return None
            if self.error(rule, steps) <= target:
                break
            below = steps
        else:
            return None
        while steps - below > 1:
            middle = (below + steps) // 2
            if self.error(rule, middle) <= target:
                steps = middle
            else:
                below = middle
        return steps

    def best(self, target, most):
        """`(rule, steps)` of the rule that needs the fewest steps."""
        best = None
        for rule in self.library.rules:
            steps = self.fewest_steps(rule, target, best[1] - 1 if best else most)
            best = (rule, steps) if steps else best
        return best


def quickest_rows(library, rule, steps, batch):
    """The internal batch size to compute in."""
    if not library.chooses_rows:
        return None
    # All rows at once are a candidate while they fit into memory on any machine.
    candidates = {rows for rows in ROWS if rows < steps * batch}
    candidates |= {steps * batch} if steps * batch <= 3200 else set()
    functions = {rows: library.prepare(rule, steps, rows) for rows in sorted(candidates)}
    times = measure.interleaved(functions, rounds=3, at_least=0, budget=10)
    return min(times, key=times.get)


def ten_classes(name, library, model, x, rule, steps, rows):
    """A function that computes the attributions of all ten classes, the way the library offers."""
    if name == "this project":

        @tf.function
        def attribute(x):
            output = model(x, training=False)
            return ig.integrated_jacobian(output, x, num_steps=steps, method=rule)

        data = tf.constant(x)
        return lambda: attribute(data).numpy()
    calls = [library.prepare(rule, steps, rows, chosen=np.full(len(x), c)) for c in range(10)]
    return lambda: [call() for call in calls]


def compare(network, options):
    """Everything measured on one network, as a list of dicts, one per library."""
    model, x = networks.trained(network), networks.rows(options.batch)
    chosen = networks.targets(model, x)
    expected = networks.reference(network, options.batch)
    found = {}
    for name in options.libraries:
        library = peers.LIBRARIES[name](model, x, chosen)
        search = Search(library, expected)
        find = functools.partial(search.best, options.target, options.most)
        best = remembered(name, network, options, find)
        if best is None:
            measure.progress(f"{network}: {name} is not {options.target:.0%} accurate in time")
            found[name] = {"network": network, "library": name, "most": options.most}
            continue
        if options.search:
            continue
        rule, steps = best
        rows = quickest_rows(library, rule, steps, options.batch)
        start = time.perf_counter()
        run = library.prepare(rule, steps, rows)
        run()
        found[name] = {
            "network": network,
            "library": name,
            "rule": rule,
            "steps": steps,
            "rows": rows,
            "error": search.error(rule, steps),
            "first call": time.perf_counter() - start,
        }
        found[name]["run"], found[name]["search"] = run, search
        measure.progress(f"{network}: {name}: {rule}, {steps} steps, {rows} rows at once")
    if options.search:
        return []
    reached = {name: result for name, result in found.items() if "run" in result}
    measured = functools.partial(measure.interleaved, budget=options.budget, pause=0.02)
    times = measured({n: r["run"] for n, r in reached.items()}, options.rounds)
    if "classes" not in options.skip:
        functions = {
            n: ten_classes(n, r["search"].library, model, x, r["rule"], r["steps"], r["rows"])
            for n, r in reached.items()
        }
        all_classes = measured(functions, 3, at_least=0)
    for name, result in reached.items():
        result["seconds"] = times[name]
        result["ten classes"] = None if "classes" in options.skip else all_classes[name]
    if "picture" not in options.skip:
        curves(reached, options, measured)
    for result in reached.values():
        del result["run"], result["search"]
    return list(found.values())


def curves(reached, options, measured):
    """Adds error and time at an eighth to twice the steps that 1 % takes, for the picture."""
    for result in reached.values():
        result["curve"] = []
    for factor in (1 / 8, 1 / 4, 1 / 2, 1, 2):
        functions = {}
        for name, result in reached.items():
            steps = max(2, round(factor * result["steps"]))
            drawn = [point["steps"] for point in result["curve"]]
            if steps in drawn or (factor > 1 and steps * options.batch > 10_000):
                continue
            library = result["search"].library
            functions[name] = library.prepare(result["rule"], steps, result["rows"])
            error = result["search"].error(result["rule"], steps)
            result["curve"].append({"steps": steps, "error": error})
        for name, seconds in measured(functions, 3).items():
            reached[name]["curve"][-1]["seconds"] = seconds


def table(results, classes):
    """The Markdown table, networks in order and libraries from quick to slow."""
    header = ["network", "library", "rule", "steps", "error", "time, ms", "times ours"]
    header += ["first call, s"] + (["ten classes, ms"] if classes else [])
    ours = {r["network"]: r.get("seconds") for r in results if r["library"] == "this project"}
    lines = []
    for network, (_, title, _) in networks.NETWORKS.items():
        of_network = [r for r in results if r["network"] == network]
        for r in sorted(of_network, key=lambda r: r.get("seconds", np.inf)):
            if "seconds" not in r:
                cells = ["", f"> {r['most']:,}"] + [""] * (len(header) - 4)
            else:
                own = ours.get(network)
                cells = [r["rule"].removeprefix("riemann_"), r["steps"], f"{r['error']:.2%}"]
                cells += [measure.milliseconds(r["seconds"])]
                cells += [f"{r['seconds'] / own:.1f}" if own else "", f"{r['first call']:.1f}"]
                cells += [measure.milliseconds(r["ten classes"])] if classes else []
            name = f"**{r['library']}**" if r["library"] == "this project" else r["library"]
            lines.append([title, name, *cells])
    return measure.markdown(header, lines)


def picture(results, target, path, shown=tuple(networks.NETWORKS)):
    """Error against time, log-log, one panel for each of the networks that are `shown`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn = [n for n in shown if any(r["network"] == n for r in results)]
    width = 8.5 if len(drawn) < 3 else 3.3 * len(drawn)
    figure, panels = pyplot.subplots(1, len(drawn), figsize=(width, 3.6), sharey=True, squeeze=False)
    for panel, network in zip(panels[0], drawn):
        for i, name in enumerate(peers.LIBRARIES):
            for r in results:
                if r["network"] == network and r["library"] == name and "curve" in r:
                    panel.loglog(
                        [1000 * point["seconds"] for point in r["curve"]],
                        [point["error"] for point in r["curve"]],
                        f"{'osDv^X'[i % 6]}-",
                        color=f"C{i}",
                        label=name,
                        linewidth=2.5 if name == "this project" else 1.2,
                        markersize=4,
                    )
        panel.axhline(target, color="grey", linewidth=0.8, linestyle="--")
        panel.set_title(networks.NETWORKS[network][1], fontsize=9)
        panel.set_xlabel("time, ms")
        panel.xaxis.set_minor_formatter("")  # which would crowd a panel of less than a decade
        panel.grid(True, which="major", alpha=0.3)
    panels[0][0].set_ylabel("mean relative L1 error")
    handles = {}
    for panel in panels[0]:
        handles.update(zip(*panel.get_legend_handles_labels()[::-1]))
    figure.legend(handles.values(), handles, loc="lower center", ncols=len(handles), frameon=False)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.savefig(path, dpi=100 if len(drawn) < 3 else 110)


def versions(libraries):
    """The versions of what was compared, as text."""
    from importlib import metadata

    packages = {"PAIR saliency": ["saliency"], "Captum": ["captum", "torch"]}
    names = ["keras", "numpy"]
    for name in libraries:
        if name not in ("this project", "original"):
            names += packages.get(name, [name.lower()])
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(networks.NETWORKS))
    parser.add_argument("--libraries", nargs="+", default=list(peers.LIBRARIES))
    parser.add_argument("--target", type=float, default=0.01, help="mean relative L1 error")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--most", type=int, default=4096, help="steps after which to give up")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved measurements of each")
    parser.add_argument("--budget", type=float, default=20, help="seconds of them per library")
    parser.add_argument("--search", action="store_true", help="only find the steps, and keep them")
    skipped = ["classes", "picture"]
    parser.add_argument("--skip", nargs="+", default=[], choices=skipped, help="the longest parts")
    parser.add_argument("--publish", action="store_true", help="write to docs/ as well")
    options = parser.parse_args()
    tf.get_logger().setLevel("ERROR")  # the searches trace a lot, which TensorFlow warns about
    results = []
    for network in options.networks:
        results += compare(network, options)
    if options.search:
        return
    classes = "classes" not in options.skip
    text = (
        f"Time to a mean relative L1 error of {options.target:.0%}, {options.batch} images at "
        f"once, {measure.machine()}, {versions(options.libraries)}.\n\n"
        f"{table(results, classes)}\n"
    )
    print(text)
    folders = [measure.BUILD] + ([measure.ROOT / "docs"] if options.publish else [])
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "time_to_accuracy.md").write_text(text)
        if "picture" not in options.skip:
            picture(results, options.target, folder / "time_to_accuracy.png")
            picture(results, options.target, folder / "time_to_accuracy_front.png", ("mlp", "cnn"))
        measure.progress(f"written: {folder}/time_to_accuracy.md")
    (measure.BUILD / "time_to_accuracy.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
