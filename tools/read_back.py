"""What Python reads in a model that `tensaur quantize` or saveModel() wrote: JSON to stdout.

usage: python read_back.py FILE.gguf | FOLDER [ORIGINAL]   (needs gguf, or safetensors, torch, bitsandbytes, transformers)

Of a GGUF file: its metadata's keys and each tensor's shape and SHA-256 of its numbers as float32. Of a folder: the same
of each weight as bitsandbytes unpacks it, and the logits of transformers for the tokens 1, 17, 300, 42. Of a folder in
8 bits and the one that it was made from: how many codes and scales differ from those that bitsandbytes makes itself.
"""
import hashlib
import json
import sys


def digest(array):
    import numpy as np
    return hashlib.sha256(np.ascontiguousarray(array, np.float32).tobytes()).hexdigest()


def gguf_file(path):
    from gguf import GGUFReader, dequantize
    reader = GGUFReader(path)
    numbers = {t.name: dequantize(t.data, t.tensor_type) for t in reader.tensors}
    return {
        "keys": sorted(key for key in reader.fields if not key.startswith("GGUF.")),
        "tensors": {name: {"shape": list(x.shape), "sha256": digest(x)} for name, x in numbers.items()},
    }


def folder(path):
    import bitsandbytes.functional as F
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM
    tensors = load_file(path + "/model.safetensors")
    found = {}
    for name, x in tensors.items():
        state = {k: v for k, v in tensors.items() if k.startswith(name + ".")}
        if any(".quant_state." in k for k in state):
            quant_state = F.QuantState.from_dict(state, device=torch.device("cpu"))
            quant_state.dtype = torch.float32
            found[name] = digest(F.dequantize_4bit(x, quant_state).float().numpy())
    try:
        import accelerate  # noqa: F401, which transformers asks for
    except ImportError:
        return {"tensors": found, "logits": None}
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, device_map="cpu")
    logits = model(torch.tensor([[1, 17, 300, 42]])).logits[0].float()
    return {"tensors": found, "logits": logits.flatten().tolist()}


def int8_folder(path, original):
    import bitsandbytes.functional as F
    import torch
    from safetensors.torch import load_file
    made, floats = load_file(path + "/model.safetensors"), load_file(original + "/model.safetensors")
    count = different = 0
    for name, codes in made.items():
        if codes.dtype == torch.int8:
            want, scales, _ = F.int8_vectorwise_quant(floats[name].half())
            count += codes.numel()
            different += (want != codes).sum().item()
            different += (scales.flatten() != made[name.replace(".weight", ".SCB")]).sum().item()
    return {"count": count, "different": different}


if len(sys.argv) > 2:
    print(json.dumps(int8_folder(sys.argv[1], sys.argv[2])))
    sys.exit()
print(json.dumps(gguf_file(sys.argv[1]) if sys.argv[1].endswith(".gguf") else folder(sys.argv[1])))
