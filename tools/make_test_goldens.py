"""Writes tests/data/default_models.json: what transformers computes with the two models under models/.

    pip install torch==2.13.0 transformers==5.23.0
    python tools/make_test_goldens.py

Run it again whenever models/ changes. Arithmetic is float32 with eager attention; the weights are those of the file
("float32"), and the same with every matrix rounded to bfloat16 ("bfloat16", what loading with that dtype keeps).
Rows are run one by one, so nothing depends on padding. Of the logits [T, V] every STRIDE-th column is kept.
"""
import hashlib
import json
import pathlib

import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
STRIDE = 61
TEXTS = ["Once upon a time, there was a little fox", "Question: What is two plus three?\n", "The"]


def logits_of(model, row):
    with torch.no_grad():
        return model(torch.tensor([row])).logits[0]  # [T, V]


def goldens(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model.eval()
    result = {
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "input_ids": rows,
    }
    for dtype in ["float32", "bfloat16"]:
        if dtype == "bfloat16":
            with torch.no_grad():
                for weight in model.parameters():
                    if weight.dim() > 1:
                        weight.copy_(weight.bfloat16())
        logits = [logits_of(model, row) for row in rows]
        result[dtype] = {
            "largest": float(max(x.abs().max() for x in logits)),
            "top": [x[-1].argmax().item() for x in logits],
            "logits": [[[float(f"{v:.6g}") for v in token] for token in x[:, ::STRIDE].tolist()] for x in logits],
        }
    return result


def main():
    head = {"torch": torch.__version__, "transformers": transformers.__version__, "stride": STRIDE}
    models = {name: goldens(ROOT / "models" / name) for name in ["tensaur-tiny", "tensaur-draft"]}
    out = ROOT / "tests" / "data" / "default_models.json"
    out.write_text(json.dumps({**head, "models": models}, separators=(",", ":")) + "\n")
    print(f"{out.relative_to(ROOT)}: {out.stat().st_size} bytes")


main()
