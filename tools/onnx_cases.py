#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fetches the node tests of ONNX and turns them into one safetensors file for onnx_test.

The package onnx, of the version below, is installed into a virtual environment in an ignored folder (data/onnx); later
versions don't carry the cases. Every case whose tensors have a dtype that moxie has is written; which operators,
attributes and inputs moxie has is for tests/onnx to say. int64 becomes i32, bool becomes u8.
"""
import argparse
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

VERSION = "1.22.0"
ROOT = Path(__file__).resolve().parents[1]
DTYPES = {"FLOAT": "F32", "DOUBLE": "F64", "BFLOAT16": "BF16", "INT32": "I32", "INT64": "I32", "UINT8": "U8", "BOOL": "U8"}
NUMPY = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "U8": "u1"}


class Left(Exception):
    """Why a case can't be written."""


def enter_environment(folder):
    """Runs this script again with the Python of a virtual environment that has the package."""
    python = folder / "venv/bin/python"
    wanted = f"import onnx; assert onnx.__version__ == '{VERSION}'"
    if not python.exists() or subprocess.run([python, "-c", wanted], capture_output=True).returncode:
        print(f"onnx_cases: installing onnx {VERSION} into {folder / 'venv'}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"onnx=={VERSION}"],
                       check=True)
    os.execv(python, [python, Path(__file__).resolve(), "--folder", folder, "--inside"])


def tensor_entry(tensor):
    """(dtype, shape, bytes) of a TensorProto."""
    import numpy
    from onnx import TensorProto, numpy_helper
    kind = TensorProto.DataType.Name(tensor.data_type)
    if kind not in DTYPES:
        raise Left(f"dtype {kind.lower()}")
    values = numpy_helper.to_array(tensor)
    if len(values.shape) > 8:
        raise Left("more than 8 dimensions")
    if kind == "INT64" and values.size and not (-2**31 <= values.min() and values.max() < 2**31):
        # an end of a slice that means "all of it"
        values = numpy.clip(values, -2**31, 2**31 - 1)
    dtype = DTYPES[kind]
    if dtype == "BF16":
        return dtype, values.shape, values.tobytes()
    return dtype, values.shape, values.astype(NUMPY[dtype]).tobytes()


def attribute_value(attribute, arrays, case, node):
    from onnx import helper
    if attribute.type in (attribute.GRAPH, attribute.GRAPHS):
        raise Left("a graph inside a node")
    value = helper.get_attribute_value(attribute)
    if attribute.type == attribute.TENSOR:
        name = f"{node}/{attribute.name}"
        arrays[f"{case}/{name}"] = tensor_entry(value)
        return {"array": name}
    if attribute.type == attribute.STRING:
        return value.decode()
    if attribute.type in (attribute.FLOAT, attribute.INT):
        return value
    if attribute.type in (attribute.FLOATS, attribute.INTS):
        return list(value)
    raise Left(f"an attribute of type {attribute.AttributeType.Name(attribute.type).lower()}")


def load_tensor(path, value_info):
    import onnx
    if not value_info.type.HasField("tensor_type"):
        raise Left("values that are no tensors")
    kind = onnx.TensorProto.DataType.Name(value_info.type.tensor_type.elem_type)
    if kind not in DTYPES:
        raise Left(f"dtype {kind.lower()}")
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return tensor


def convert(folder, arrays):
    """The case as the test reads it; adds its arrays."""
    import onnx
    model = onnx.load(folder / "model.onnx")
    graph, name, own = model.graph, folder.name, {}
    for kind, infos in (("input", graph.input), ("output", graph.output)):
        for i, info in enumerate(infos):
            tensor = load_tensor(folder / f"test_data_set_0/{kind}_{i}.pb", info)
            own[f"{name}/{kind}/{info.name}"] = tensor_entry(tensor)
    for tensor in graph.initializer:
        own[f"{name}/input/{tensor.name}"] = tensor_entry(tensor)
    nodes = []
    for i, node in enumerate(graph.node):
        attributes = {a.name: attribute_value(a, own, name, f"node_{i}") for a in node.attribute}
        nodes.append({"operator": node.op_type, "inputs": list(node.input), "outputs": list(node.output),
                      "attributes": attributes})
    arrays.update(own)
    versions = {o.domain: o.version for o in model.opset_import}
    return {"name": name, "version": max(versions.values()), "nodes": nodes,
            "inputs": sorted({i.name for i in graph.input} | {t.name for t in graph.initializer}),
            "outputs": [o.name for o in graph.output]}


def write_safetensors(path, arrays, metadata):
    header, offset = {"__metadata__": metadata}, 0
    for name, (dtype, shape, data) in arrays.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    aside = path.with_suffix(".part")
    with open(aside, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(data for _, _, data in arrays.values())
    aside.rename(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "data/onnx", help="default: data/onnx")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.inside:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        enter_environment(arguments.folder.resolve())

    import onnx
    cases, left, arrays = [], {}, {}
    for folder in sorted((Path(onnx.__file__).parent / "backend/test/data/node").iterdir()):
        try:
            cases.append(convert(folder, arrays))
        except Left as reason:
            left[folder.name] = str(reason)
    path = arguments.folder / "cases.safetensors"
    write_safetensors(path, arrays, {"onnx": onnx.__version__, "cases": json.dumps(cases), "left": json.dumps(left)})
    print(f"onnx_cases: {len(cases)} cases in {path}, {len(left)} left out")
    return 0 if cases else 1


if __name__ == "__main__":
    sys.exit(main())
