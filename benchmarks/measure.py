"""Measuring, for every script in this folder: time, peak memory, Markdown.

Import it before TensorFlow: it sets the environment variables that TensorFlow and Keras read.
"""

import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "benchmarks"
sys.path.append(str(ROOT))  # the scripts also run where the modules are not installed
PUBLISHED = ROOT / "build" / "published"  # packages with networks of others, and what reads their weights
sys.path.append(str(PUBLISHED))

MIB = 2**20


def progress(text):
    """Prints a line on standard error, so that standard output is the report alone."""
    print(text, file=sys.stderr, flush=True)


def seconds(function, at_least=0.0):
    """The time of one call; short calls are repeated until `at_least` seconds have passed."""
    calls, start = 0, time.perf_counter()
    while True:
        function()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= at_least:
            return elapsed / calls


def interleaved(functions, rounds=9, at_least=0.05, budget=None, pause=0.0):
    """Median seconds of each function, measured in turns so that all see the same machine.

    Args:
      functions: `{name: function of no arguments}`. A function returns when its result is there.
      rounds: measurements of each function.
      at_least: a measurement repeats short calls for this many seconds.
      budget: seconds after which a function that has three measurements gets no more.
      pause: seconds of rest before a measurement, for libraries whose threads spin for a while.

    Returns:
      `{name: seconds}`.
    """
    for function in functions.values():
        function()
        function()
    times = {name: [] for name in functions}
    spent = dict.fromkeys(functions, 0.0)
    for _ in range(rounds):
        for name, function in functions.items():
            if budget is not None and spent[name] > budget and len(times[name]) >= 3:
                continue
            time.sleep(pause)
            start = time.perf_counter()
            times[name].append(seconds(function, at_least))
            spent[name] += time.perf_counter() - start
    return {name: statistics.median(values) for name, values in times.items()}


def in_child(script, *arguments):
    """Runs `script --child arguments...` as its own process; returns what it prints, from JSON."""
    command = [sys.executable, str(script), "--child", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}.")
    return json.loads(done.stdout.splitlines()[-1])


def status(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def peak_memory(run):
    """Peak resident memory while `run()` runs, in bytes: above what the process holds now, and whole.

    Call it once in a process of its own (`in_child`): memory that an earlier call returned to the
    allocator but not to the system would hide what the next one needs.
    """
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
        idle = status("VmRSS")
        run()
        peak = status("VmHWM")
    except OSError:  # no /proc: the mark is since the process began
        unit = 1 if platform.system() == "Darwin" else 1024
        idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        idle *= unit
    return peak - idle, peak


def markdown(header, rows):
    """A Markdown table: text on the left, every other column on the right."""
    lines = ["| " + " | ".join(header) + " |"]
    lines.append("|" + "|".join(["---"] + ["---:"] * (len(header) - 1)) + "|")
    lines.extend("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)
    return "\n".join(lines)


def milliseconds(value):
    """Seconds as text in ms with three significant digits."""
    value = 1000 * value
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def machine():
    """One line on what the numbers were measured on."""
    import tensorflow as tf

    processor = platform.machine()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = f"Python {platform.python_version()}, TensorFlow {tf.__version__}"
    return f"{cores} cores of {processor}, {versions}"
