"""Explains a file of rows: `python -m igtf.ray model.keras rows.parquet maps.parquet`."""

import argparse
import functools
from pathlib import Path

from igtf.explainer.arrays import listed
from igtf.ray.dataset import explain_dataset, imported, load_explainer

READERS = {".parquet": "read_parquet", ".npy": "read_numpy", ".csv": "read_csv"}


def arguments():
    parser = argparse.ArgumentParser(
        "python -m igtf.ray",
        description="Explains the rows of a file with a model in a file, on the Ray cluster that "
        "RAY_ADDRESS names, or on this machine.",
    )
    parser.add_argument("model", help="a Keras model, .keras or .h5, or the folder of a SavedModel")
    parser.add_argument("rows", help="a file or a folder: .parquet, .npy (its column is data) or .csv")
    parser.add_argument("output", help="folder for files of Parquet; it must not be there yet")
    parser.add_argument("--inputs", nargs="+", metavar="COLUMN", help="what is explained (the only column)")
    parser.add_argument("--targets", help="a class number, predicted, all, or a column of class numbers")
    parser.add_argument(
        "--keep", nargs="*", metavar="COLUMN", help="columns to keep beside the results (all)"
    )
    parser.add_argument("--row-id", metavar="COLUMN", help="a column that names rows in messages")
    parser.add_argument("--method", default="integrated_gradients", help="(%(default)s)")
    parser.add_argument("--num-steps", type=int, help="steps of the path (50)")
    parser.add_argument("--tolerance", type=float, help="the relative error that attributions may have")
    parser.add_argument(
        "--logits", action="store_true", help="explain what the last softmax or sigmoid reads"
    )
    parser.add_argument(
        "--batch-size", type=int, default=256, help="rows that a worker gets at once (%(default)s)"
    )
    parser.add_argument("--concurrency", type=int, default=1, help="number of workers (%(default)s)")
    parser.add_argument(
        "--num-cpus", type=float, help="CPUs of a worker (1, or less to leave one for reading)"
    )
    parser.add_argument(
        "--num-gpus", type=float, default=0, help="GPUs of a worker, such as 0.5 (%(default)s)"
    )
    parser.add_argument(
        "--continue",
        action="store_true",
        dest="goes_on",
        help="go on where rows fail, and say why in the column failure",
    )
    parser.add_argument(
        "--unsafe",
        action="store_true",
        help="load files of Keras that bring code of their own; trust them first",
    )
    return parser


def main(given=None):
    parser = arguments()
    options = parser.parse_args(given)
    reader = READERS.get(Path(options.rows).suffix)
    # The folder of the workers may be another.
    model, rows, output = (
        str(Path(name).resolve()) for name in (options.model, options.rows, options.output)
    )
    if reader is None or not Path(options.rows).exists():
        parser.error(f"rows is {options.rows}, expected a file that is there and ends in {listed(READERS)}.")
    if Path(options.output).exists():
        parser.error(f"output is {options.output}, which is there. Name another folder, or remove it.")
    method = {"num_steps": options.num_steps, "tolerance": options.tolerance}
    make_explainer = functools.partial(
        load_explainer,
        model,
        options.method,
        not options.unsafe,
        logits=options.logits,
        **{name: value for name, value in method.items() if value is not None},
    )
    if not Path(options.model).exists():
        parser.error(f"model is {options.model}, expected a file or folder that is there.")
    inputs, targets = options.inputs, options.targets
    data = imported().data
    explained = explain_dataset(
        getattr(data, reader)(rows),
        make_explainer,
        inputs=inputs[0] if inputs and len(inputs) == 1 else inputs,
        targets=int(targets) if targets and targets.lstrip("-").isdigit() else targets,
        batch_size=options.batch_size,
        concurrency=options.concurrency,
        num_cpus=options.num_cpus,
        num_gpus=options.num_gpus,
        keep=options.keep,
        row_id=options.row_id,
        on_error="continue" if options.goes_on else "raise",
    )
    explained.write_parquet(output)
    print(f"{data.read_parquet(output).count()} rows are explained in {options.output}")


if __name__ == "__main__":
    main()
