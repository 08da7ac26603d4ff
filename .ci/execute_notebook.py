"""Executes a notebook top to bottom in a fresh kernel: execute_notebook.py <notebook> <executed copy>."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

source, target = sys.argv[1:]
notebook = nbformat.read(source, as_version=4)
client = NotebookClient(
    notebook,
    timeout=1800,
    kernel_name="python3",
    # A notebook finds the modules beside it wherever it is executed from.
    resources={"metadata": {"path": str(Path(source).resolve().parent)}},
    # TensorFlow's own log goes to the terminal; progress bars leave their last line only.
    extra_arguments=["--IPKernelApp.capture_fd_output=False"],
    coalesce_streams=True,
    record_timing=False,
)
try:
    client.execute()
finally:
    nbformat.write(notebook, target)
