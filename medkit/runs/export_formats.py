"""Exported graphs as files, and those files run: ONNX by ONNX runtime, torch's own form by torch."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch.export import ExportedProgram

import medkit.parts.recurrent  # noqa: F401  # registers final_states
from medkit.errors import InputError, RunError
from medkit.records import made_with
from medkit.runs.export_graph import Graph, sizes
from medkit.runs.file_digest import digest

Format = Literal["onnx", "torch"]
SUFFIXES: dict[str, Format] = {".onnx": "onnx", ".pt2": "torch"}
OPSET = 18
LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
LARGEST = 2**31 - 1
"""Bytes of an ONNX file: it is one protobuf message."""
ABOUT = "medkit.json"
"""What a file says about itself: a property of an ONNX model, an extra file in torch's form."""

Runner = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""From the inputs of a graph to its outputs, both in order."""


def format_of(path: Path, said: str | None) -> Format:
    """The format asked for, or the one that the file's name implies; a library that it needs and that is missing is
    an :class:`InputError`, as is a name that implies neither."""
    if said is not None and said not in get_args(Format):
        raise InputError(f"'{said}' is not a format of exported networks", "--format", "one of onnx, torch")
    found = cast("Format | None", said) or SUFFIXES.get(path.suffix)
    if found is None:
        hint = "name a file that ends in .onnx or .pt2, or give --format"
        raise InputError("the name implies no format of exported networks", str(path), hint)
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None] if found == "onnx" else []
    if missing:
        what = f"ONNX is written and checked by {', '.join(LIBRARIES)}, and {missing[0]} is not installed"
        hint = "pip install 'medkit-imaging[export]', or name a file that ends in .pt2"
        raise InputError(what, "medkit export", hint)
    return found


def write(
    program: ExportedProgram,
    path: Path,
    format: Format,
    *,
    opset: int,
    graph: Graph,
    about: Mapping[str, Any],
) -> None:
    """Write a graph, as ``program`` has it, as ``path``.

    Parameters
    ----------
    opset:
        Version of ONNX's operators.
    about:
        What the file says about itself.

    Raises
    ------
    RunError
        if it has an operation that ONNX lacks, or is too large for it.
    """
    text = json.dumps(about)
    if format == "torch":
        if any(node.target is torch.ops.medkit.final_states.default for node in program.graph.nodes):
            what = "torch's own form cannot hold an LSTM over any number of slices"
            raise RunError(what, hint="name a file that ends in .onnx")
        torch.export.save(program, path, extra_files={ABOUT: text})
        return
    import onnx

    model = _converted(program, opset, graph)
    onnx.helper.set_model_props(model, {ABOUT: text})
    if model.ByteSize() > LARGEST:
        raise RunError("the network is larger than the 2 GiB of an ONNX file", hint="name a file that ends in .pt2")
    path.write_bytes(model.SerializeToString())


def _converted(program: ExportedProgram, opset: int, graph: Graph) -> Any:
    with _quiet():
        try:
            made = torch.onnx.export(
                program,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                opset_version=opset,
                dynamo=True,
                verbose=False,
                custom_translation_table={torch.ops.medkit.final_states.default: _lstm},
            )
            assert made is not None
            model = made.model_proto
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()
            what = f"the network cannot be written as ONNX: {reason[0] if reason else type(error).__name__}"
            raise RunError(what, hint="a file that ends in .pt2 can hold it") from error
    for node in model.graph.node:  # which line of which file made it
        del node.metadata_props[:]
    _name_axes(model, program)
    return model


def _lstm(features: Any, start: Any, weights: Sequence[Any], layers: int) -> Any:
    """:func:`medkit.parts.recurrent.final_states` by ONNX's LSTM."""
    from onnxscript.function_libs.torch_lib.ops.core import aten_lstm

    return aten_lstm(features, [start, start], weights, True, layers, 0.0, False, True, True)[1]


def _name_axes(model: Any, program: ExportedProgram) -> None:
    """Give open axes the names of :func:`sizes` in place of torch's symbols."""
    wanted = sizes(program)
    for kind, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
        for value, axes in zip(values, wanted[kind], strict=True):
            for dimension, axis in zip(value.type.tensor_type.shape.dim, axes, strict=True):
                if isinstance(axis, str):
                    dimension.dim_param = axis
    del model.graph.value_info[:]  # sizes of intermediate values, in those symbols


def runner(path: Path, format: Format) -> Runner:
    """What runs the graph in a file, on one thread of the CPU or torch's own number of them."""
    if format == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]

        def run_onnx(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
            try:
                found: list[np.ndarray] = session.run(None, dict(zip(names, arrays, strict=True)))
            except Exception as error:  # its own kinds of error, which it does not expose
                reason = str(error).splitlines()[0]
                raise RunError(f"ONNX runtime does not run the exported network: {reason}") from error
            return found

        return run_onnx
    module = torch.export.load(path).module()

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            return [found.numpy() for found in module(*(torch.from_numpy(array) for array in arrays))]

    return run


def file_of(path: Path, format: Format, opset: int) -> dict[str, Any]:
    """Name, digest and size of a file, and what it was made with."""
    names = ("torch", *LIBRARIES) if format == "onnx" else ("torch",)
    found = {"name": path.name, "format": format} | ({"opset": opset} if format == "onnx" else {})
    found |= {"digest": f"sha256:{digest(path)}", "bytes": path.stat().st_size}
    return found | {"made_with": made_with(names)["libraries"]}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on its own workings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
