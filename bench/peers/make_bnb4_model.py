"""Make the op graph of MatMulBnb4 and name it in cases.json, as make_op_models.py does for the others.

usage: python make_bnb4_model.py OUT_DIR   (needs onnx, numpy; after make_op_models.py)
"""
import json, sys
import numpy as np
from onnx import TensorProto as T, helper as h, numpy_helper as nh, save

N, BLOCK, CHAIN, NAME = 4096, 64, 5, "nf4_gemv_4096_nf4"
rng = np.random.default_rng(7)


def graph(r):
    nodes, weights, at = [], [], "x"
    for i in range(r):
        codes = rng.integers(0, 256, N * N // 2, dtype=np.uint8)
        absmax = rng.uniform(0.5, 1.5, N * N // BLOCK).astype(np.float32) / np.float32(0.6 * N**0.5)
        weights += [nh.from_array(codes, f"b{i}"), nh.from_array(absmax, f"s{i}")]
        nodes.append(h.make_node("MatMulBnb4", [at, f"b{i}", f"s{i}"], [f"h{i}"], domain="com.microsoft", K=N, N=N,
                                 block_size=BLOCK, quant_type=1))
        at = f"h{i}"
    nodes.append(h.make_node("ReduceSum", [at], ["y"], keepdims=0))
    x, y = h.make_tensor_value_info("x", T.FLOAT, [1, N]), h.make_tensor_value_info("y", T.FLOAT, [])
    opsets = [h.make_opsetid("", 21), h.make_opsetid("com.microsoft", 1)]
    return h.make_model(h.make_graph(nodes, NAME, [x], [y], weights), ir_version=10, opset_imports=opsets)


def main(out):
    for r in (1, CHAIN):
        save(graph(r), f"{out}/{NAME}.r{r}.onnx")
    with open(f"{out}/cases.json") as file:
        cases = [case for case in json.load(file) if case["file"] != NAME]
    cases.append({"case": "nf4_gemv_4096", "dtype": "nf4", "file": NAME, "r": CHAIN, "shape": [1, N],
                  "flops": 2 * N * N, "bytes": N * N // 2 + 4 * N * N // BLOCK})
    with open(f"{out}/cases.json", "w") as file:
        json.dump(cases, file, indent=1)


main(sys.argv[1])
