"""Tiny random OPT models, and what Transformers makes of them: tests/data/opt and tests/data/opt-proj.

    python3 tests/data/make_opt.py

Needs torch and transformers; tests/models/opt_test.ts reads the result.
"""
import json
import pathlib

import torch
from transformers import OPTConfig, OPTForCausalLM

HERE = pathlib.Path(__file__).parent
SIZES = dict(vocab_size=61, hidden_size=24, ffn_dim=37, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=32, init_std=0.3, bos_token_id=0, pad_token_id=1, eos_token_id=2)
FORMS = {
    "opt": dict(word_embed_proj_dim=24),
    "opt-proj": dict(word_embed_proj_dim=10, do_layer_norm_before=False, enable_bias=False, activation_function="gelu"),
}
IDS = [[3, 17, 60, 5, 5, 41, 8, 0, 29], [11, 44, 2, 9, 52]]
PROMPT, NEW = [7, 33, 12, 50], 12


def numbers(t):
    return [float(f"{x:.9g}") for x in t.flatten().tolist()]


for name, form in FORMS.items():
    torch.manual_seed(20)
    model = OPTForCausalLM(OPTConfig(**SIZES, **form)).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():  # vectors are 1 or 0 at first, which would hide them
            if p.ndim == 1:
                p += 0.3 * torch.randn_like(p)
        model.save_pretrained(HERE / name)
        rows = []
        for ids in IDS:
            out = model(torch.tensor([ids]), output_hidden_states=True)
            rows.append({"ids": ids, "logits": numbers(out.logits[0]),
                         "hidden_states": [numbers(h[0]) for h in out.hidden_states]})
        greedy = model.generate(torch.tensor([PROMPT]), max_new_tokens=NEW, do_sample=False, eos_token_id=None)
    goldens = {"rows": rows, "prompt": PROMPT, "greedy": greedy[0].tolist()}
    (HERE / name / "goldens.json").write_text(json.dumps(goldens) + "\n")
    (HERE / name / "generation_config.json").unlink(missing_ok=True)
