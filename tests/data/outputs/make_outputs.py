"""Attentions, hidden states, logits and scores of every decoding strategy, as transformers gives them.

    pip install torch==2.13.0 transformers==5.23.0 && python make_outputs.py model outputs encoder-decoder
    pip install torch==2.13.0 transformers==4.44.2 && python make_outputs.py outputs

"model" writes the tiny random Llama that both releases run (model/); "outputs" writes outputs-RELEASE.{json,safetensors}:
5.23 has greedy search, sampling, beam search, assisted decoding and prompt lookup; 4.44 what 5 has no more (diverse and
constrained beam search, contrastive search, DoLa) or does not sort (beam sampling).  Sampling is made certain by top_k: every token that is left
is drawn.  Each case's tokens were seen to survive noise on the scores.  What stands at padded places is zeroed.
"encoder-decoder" writes a tiny random T5 and BART (encoder-decoder/) and encoder-decoder.{json,safetensors}: what either
gives of its encoder and of its attention to it, in a forward pass and in generate.
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


PAIR = HERE / "encoder-decoder"
PAIR_CONFIGS = {
    "t5": transformers.T5Config(
        vocab_size=V, d_model=D, d_kv=DH, d_ff=FF, num_heads=HEADS, num_layers=2,
        relative_attention_num_buckets=4, relative_attention_max_distance=6, tie_word_embeddings=False,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=2, architectures=["T5ForConditionalGeneration"],
    ),
    "bart": transformers.BartConfig(
        vocab_size=V, d_model=D, encoder_ffn_dim=FF, decoder_ffn_dim=FF, encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS, encoder_layers=1, decoder_layers=2, max_position_embeddings=16,
        decoder_start_token_id=0, pad_token_id=0, bos_token_id=1, eos_token_id=2, forced_eos_token_id=None,
        architectures=["BartForConditionalGeneration"],
    ),
}  # fmt: skip
RIGHT = {"input_ids": [[1, 7, 30, 7, 12], [1, 41, 9, 0, 0]], "attention_mask": [[1] * 5, [1, 1, 1, 0, 0]]}
DECODER = {"decoder_input_ids": [[0, 8, 20, 31], [0, 5, 17, 40]]}
PAIR_CASES = [
    ("t5 forward left", "t5", {**PADDED, **DECODER}, None),
    ("t5 greedy", "t5", RIGHT, {}),
    ("t5 greedy left", "t5", PADDED, {}),
    ("t5 sample", "t5", RIGHT, {"do_sample": True, "top_k": 1, "num_return_sequences": 2}),
    ("bart forward", "bart", {**RIGHT, **DECODER}, None),
    ("bart beam", "bart", RIGHT, {"num_beams": 3}),
]
OF_ENCODER = ("encoder_attentions", "encoder_hidden_states")
OF_DECODER = ("decoder_attentions", "decoder_hidden_states", "cross_attentions")


def write_pairs():
    """Random weights, as wide as the Llama's; bfloat16 numbers, so that they are small."""
    for name, config in PAIR_CONFIGS.items():
        torch.manual_seed(5)
        model = transformers.AutoModelForSeq2SeqLM.from_config(config)
        with torch.no_grad():
            for at, p in model.named_parameters():
                norm = p.dim() == 1 and at.endswith("weight")
                p.copy_((1 + 0.2 * torch.randn(p.shape) if norm else 0.5 * torch.randn(p.shape)).bfloat16().float())
        model.bfloat16().save_pretrained(PAIR / name)
        (PAIR / name / "generation_config.json").unlink(missing_ok=True)
        (PAIR / name / "model.safetensors").chmod(0o644)


def zeroed(field, t, mask):
    """`t` with zeros at what the encoder's padding stands at."""
    t = t.clone()
    for row, pad in enumerate(torch.tensor(mask).eq(0).repeat_interleave(t.shape[0] // len(mask), 0)):
        if field in ("encoder_attentions", "cross_attentions"):
            t[row, :, :, pad] = 0
        if field == "encoder_attentions":
            t[row, :, pad] = 0
        if field == "encoder_hidden_states":
            t[row, pad] = 0
    return t.float().contiguous()


def run_pair(name, inputs, options, **more):
    """One call of forward or generate."""
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(PAIR / name, attn_implementation="eager", dtype="float32")
    given = {key: torch.tensor(rows) for key, rows in inputs.items()}
    flags = {"output_attentions": True, "output_hidden_states": True}
    with torch.no_grad():
        if options is None:
            return model.eval()(**given, **flags)
        fixed = {"do_sample": False, "max_new_tokens": 3, "eos_token_id": None, **options}
        return model.eval().generate(**given, **fixed, **flags, return_dict_in_generate=True, **more)


def write_encoder_decoder():
    """All cases of both pairs."""
    write_pairs()
    cases, tensors = [], {}
    for name, model, inputs, options in PAIR_CASES:
        output, mask = run_pair(model, inputs, options), inputs["attention_mask"]
        case = {"name": name, "model": model, "inputs": inputs, "generation": options}
        if options is not None:
            case["sequences"] = output.sequences.tolist()
            for seed in range(3):
                noisy = run_pair(model, inputs, options, logits_processor=transformers.LogitsProcessorList([Noise(seed)]))
                assert noisy.sequences.equal(output.sequences), f"{name}: tokens hang on rounding"
        for field in (*OF_ENCODER, *OF_DECODER):
            value = getattr(output, field)
            steps = [value] if options is None or field in OF_ENCODER else value
            case[field] = [[list(t.shape) for t in layers] for layers in steps]
            for step, layers in enumerate(steps):
                for layer, t in enumerate(layers):
                    tensors[f"{name}.{field}.{step}.{layer}"] = zeroed(field, t, mask)
        cases.append(case)
    stem = HERE / "encoder-decoder"
    head = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
    stem.with_suffix(".json").write_text(json.dumps({**head, "cases": cases}) + "\n")
    save_file(tensors, stem.with_suffix(".safetensors"))


for step in sys.argv[1:]:
    {"model": write_model, "outputs": write_outputs, "encoder-decoder": write_encoder_decoder}[step]()
