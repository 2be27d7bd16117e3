"""Attentions, hidden states, logits and scores of every decoding strategy, as transformers gives them.

    pip install torch==2.13.0 transformers==5.23.0 && python make_outputs.py model outputs
    pip install torch==2.13.0 transformers==4.44.2 && python make_outputs.py outputs

"model" writes the tiny random Llama that both releases run (model/); "outputs" writes outputs-RELEASE.{json,safetensors}:
5.23 has greedy search, sampling, beam search, assisted decoding and prompt lookup; 4.44 what 5 has no more (diverse and
constrained beam search, contrastive search, DoLa) or does not sort (beam sampling).  Sampling is made certain by top_k: every token that is left
is drawn.  Each case's tokens were seen to survive noise on the scores.  What stands at padded places is zeroed.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
MODEL = HERE / "model"
LATEST = transformers.__version__.startswith("5.")
V, D, HEADS, KV_HEADS, DH, FF, LAYERS = 48, 16, 2, 1, 8, 16, 3
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": FF,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": DH,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "torch_dtype": "float32",
}
PADDED = {"input_ids": [[1, 7, 30, 7, 12], [0, 0, 1, 41, 9]], "attention_mask": [[1] * 5, [0, 0, 1, 1, 1]]}
EVEN = {"input_ids": [[1, 7, 30, 7, 12], [1, 3, 25, 41, 9]], "attention_mask": [[1] * 5, [1] * 5]}
ONE = {"input_ids": [[1, 7, 30, 7, 12, 30, 7]], "attention_mask": [[1] * 7]}
FIELDS = ("scores", "logits", "attentions", "hidden_states")

CASES = {
    True: [
        ("greedy", PADDED, {}),
        ("sample", PADDED, {"do_sample": True, "top_k": 1}),
        ("beam", PADDED, {"num_beams": 3}),
        ("assisted", ONE, {"num_assistant_tokens": 2, "assistant": True}),
        ("assisted_sample", ONE, {"num_assistant_tokens": 2, "assistant": True, "do_sample": True, "top_k": 1}),
        ("prompt_lookup", ONE, {"prompt_lookup_num_tokens": 2}),
    ],
    False: [
        ("beam_sample", PADDED, {"num_beams": 2, "do_sample": True, "top_k": 2}),
        ("group_beam", PADDED, {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.7}),
        ("constrained_beam", PADDED, {"num_beams": 3, "force_words_ids": [[22]]}),
        ("contrastive", EVEN, {"penalty_alpha": 0.6, "top_k": 3}),
        ("dola", EVEN, {"dola_layers": [0, 1], "repetition_penalty": 1.2}),
    ],
}[LATEST]


def write_model():
    """Random weights, wide enough that tokens do not hang on rounding."""
    torch.manual_seed(7)
    shapes = {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,), "lm_head.weight": (V, D)}
    for i in range(LAYERS):
        at = f"model.layers.{i}"
        shapes |= {
            f"{at}.input_layernorm.weight": (D,),
            f"{at}.post_attention_layernorm.weight": (D,),
            f"{at}.self_attn.q_proj.weight": (HEADS * DH, D),
            f"{at}.self_attn.k_proj.weight": (KV_HEADS * DH, D),
            f"{at}.self_attn.v_proj.weight": (KV_HEADS * DH, D),
            f"{at}.self_attn.o_proj.weight": (D, HEADS * DH),
            f"{at}.mlp.gate_proj.weight": (FF, D),
            f"{at}.mlp.up_proj.weight": (FF, D),
            f"{at}.mlp.down_proj.weight": (D, FF),
        }
    weights = {name: torch.randn(s) * 0.5 if len(s) > 1 else 1 + 0.2 * torch.randn(s) for name, s in shapes.items()}
    MODEL.mkdir(exist_ok=True)
    save_file(weights, MODEL / "model.safetensors", metadata={"format": "pt"})
    (MODEL / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


class Noise(transformers.LogitsProcessor):
    """Adds noise to what is not excluded."""

    def __init__(self, seed):
        self.random = torch.Generator().manual_seed(seed)

    def __call__(self, ids, scores):
        finite = torch.isfinite(scores)
        noise = 1e-3 * torch.randn(scores.shape, generator=self.random)
        return torch.where(finite, scores + noise.to(scores.dtype), scores)


def load():
    """The model, with attention that tells its weights."""
    return transformers.LlamaForCausalLM.from_pretrained(MODEL, attn_implementation="eager").eval()


def run(inputs, options, **more):
    """One call of generate."""
    options = dict(options)
    if options.pop("assistant", False):
        more["assistant_model"] = assistant = load()
        assistant.generation_config.num_assistant_tokens = options.pop("num_assistant_tokens")
        assistant.generation_config.num_assistant_tokens_schedule = "constant"
        assistant.generation_config.assistant_confidence_threshold = 0.0
        with torch.no_grad():  # wrong now and then
            assistant.lm_head.weight += 0.3 * torch.randn(V, D, generator=torch.Generator().manual_seed(3))
    flags = {f"output_{name}": True for name in FIELDS}
    with torch.no_grad():
        return load().generate(
            **{name: torch.tensor(rows) for name, rows in inputs.items()},
            **{"do_sample": False, "max_new_tokens": 4, "eos_token_id": None, "pad_token_id": 0, **options},
            **flags,
            return_dict_in_generate=True,
            **more,
        )


def unpadded(name, step, value, mask):
    """`value` with zeros at what padding stands at."""
    rows = value.shape[0] // len(mask)
    pads = torch.tensor(mask).eq(0).repeat_interleave(rows, 0)
    value = value.clone()
    for row, pad in enumerate(pads.sum(1).tolist()):
        if name == "attentions":
            value[row, :, :, :pad] = 0
            if step == 0:
                value[row, :, :pad] = 0
        elif name == "hidden_states" and step == 0:
            value[row, :pad] = 0
    return value


def write_outputs():
    """All cases of this release."""
    cases, tensors = [], {}
    for name, inputs, options in CASES:
        torch.manual_seed(1)
        output = run(inputs, options)
        for seed in range(3):
            noisy = run(inputs, options, logits_processor=transformers.LogitsProcessorList([Noise(seed)]))
            assert noisy.sequences.equal(output.sequences), f"{name}: tokens hang on rounding"
        case = {"name": name, "inputs": inputs, "generation": options, "sequences": output.sequences.tolist()}
        for field in FIELDS:
            steps = getattr(output, field)
            case[field] = []
            for step, value in enumerate(steps):
                layers = [value] if torch.is_tensor(value) else list(value)
                case[field].append([list(t.shape) for t in layers])
                for layer, t in enumerate(layers):
                    at = unpadded(field, step, t, inputs["attention_mask"]).float().clamp(min=-1e30)
                    tensors[f"{name}.{field}.{step}.{layer}"] = at.contiguous()
        cases.append(case)
    stem = HERE / f"outputs-{'.'.join(transformers.__version__.split('.')[:2])}"
    head = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
    stem.with_name(stem.name + ".json").write_text(json.dumps({**head, "cases": cases}) + "\n")
    save_file(tensors, stem.with_name(stem.name + ".safetensors"))


for step in sys.argv[1:]:
    {"model": write_model, "outputs": write_outputs}[step]()
