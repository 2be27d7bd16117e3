#!/usr/bin/env python3
"""Trains a Tensaur model from scratch on the CPU.

    python train.py CORPUS_DIR TOKENIZER_DIR OUT_DIR --size tiny|draft [--minutes M | --steps N] [--threads T]

Phase 1: packed windows of 256 tokens of train.txt.  Phase 2 (the last --long-frac of the run): windows of 1024 tokens,
half of them from long.txt.  bf16 autocast, f32 master weights, Muon for the hidden matrices and AdamW for the rest
(--opt adamw: AdamW for all), linear warm-up and cosine decay.  A checkpoint is written every --save-min minutes.
The order of the data and the initial weights depend only on --seed; with --steps the run is reproducible up to
floating-point reduction order, with --minutes the length also depends on the machine.
"""
import argparse
import csv
import math
import os
import time

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
import numpy as np
import torch
import torch.nn.functional as F
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

SIZES = {"tiny": dict(hidden_size=256, num_hidden_layers=5, num_attention_heads=8, num_key_value_heads=2, head_dim=32, intermediate_size=512),
         "draft": dict(hidden_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32, intermediate_size=256)}


def config(size):
    return LlamaConfig(vocab_size=2048, max_position_embeddings=1024, rope_theta=10000.0, rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=2043, eos_token_id=2044,
                       pad_token_id=2047, attention_bias=False, mlp_bias=False, hidden_act="silu", initializer_range=0.02, **SIZES[size])


def tokens(corpus, tokdir, name):
    """uint16 token stream: <|begin_of_text|> document <|end_of_text|> ..."""
    path = "%s/%s.npy" % (corpus, name)
    if not os.path.exists(path):
        from tokenizers import Tokenizer
        tok = Tokenizer.from_file(tokdir + "/tokenizer.json")
        eos = tok.token_to_id("<|end_of_text|>")
        docs = open("%s/%s.txt" % (corpus, name), encoding="utf-8").read().split("\n\x1e\n")[:-1]
        out = []
        for i in range(0, len(docs), 512):
            for e in tok.encode_batch(docs[i:i + 512]):
                out.append(np.array(e.ids + [eos], dtype=np.uint16))
        np.save(path, np.concatenate(out))
    return np.load(path, mmap_mode="r")


DTYPE = torch.bfloat16 if os.environ.get("TRAIN_DTYPE") == "bfloat16" else torch.float32
_MASK = {}


def grouped_attention(module, query, key, value, attention_mask=None, scaling=None, dropout=0.0, **kw):
    """Causal attention in bf16 with the query heads of one key head stacked (faster on the CPU than SDPA's backward pass)."""
    B, H, S, D = query.shape
    K = key.shape[1]
    G = H // K
    m = _MASK.get((S, G))
    if m is None:
        m = _MASK[(S, G)] = torch.full((S, S), float("-inf"), dtype=DTYPE).triu(1).repeat(G, 1)
    q = (query.reshape(B * K, G * S, D) * scaling).to(DTYPE)
    s = torch.baddbmm(m, q, key.reshape(B * K, S, D).to(DTYPE).transpose(1, 2))
    o = torch.bmm(torch.softmax(s, -1, dtype=DTYPE), value.reshape(B * K, S, D).to(DTYPE))
    return o.reshape(B, H, S, D).transpose(1, 2).contiguous(), None


AttentionInterface.register("grouped", grouped_attention)


class Muon(torch.optim.Optimizer):
    """Momentum with Newton-Schulz orthogonalisation; matrices of one shape are handled as one batch."""

    def __init__(self, params, lr=0.02, momentum=0.95, wd=0.01):
        super().__init__(params, dict(lr=lr, momentum=momentum, wd=wd))
        self.groups = {}
        for p in self.param_groups[0]["params"]:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.buf = {s: torch.zeros(len(ps), *s) for s, ps in self.groups.items()}

    @torch.no_grad()
    def step(self):
        g0 = self.param_groups[0]
        for s, ps in self.groups.items():
            g = torch.stack([p.grad for p in ps])
            b = self.buf[s]
            b.lerp_(g, 1 - g0["momentum"])
            x = g.lerp_(b, g0["momentum"]).to(DTYPE)
            t = s[0] > s[1]
            if t:
                x = x.transpose(1, 2)
            x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).to(DTYPE)
            for _ in range(5):
                a = x @ x.transpose(1, 2)
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
            if t:
                x = x.transpose(1, 2)
            sc = max(1.0, s[0] / s[1]) ** 0.5 * g0["lr"]
            for p, u in zip(ps, x.float()):
                p.mul_(1 - g0["lr"] * g0["wd"]).add_(u, alpha=-sc)


def batches(arr, bs, T, seed):
    """Windows of T + 1 tokens in a shuffled order, for ever."""
    n = (len(arr) - 1) // T
    ep = 0
    while True:
        order = np.random.default_rng(seed + ep).permutation(n)
        for i in range(0, n - bs + 1, bs):
            idx = order[i:i + bs]
            yield np.stack([arr[j * T:j * T + T + 1] for j in idx]).astype(np.int64)
        ep += 1


def copy_windows(rng, arr, n, T):
    """Windows that repeat themselves: random tokens, or a piece of text, of 6 to 80 tokens again and again.
    They make the attention heads that copy (names, list items, quoted text) form early."""
    out = np.empty((n, T + 1), dtype=np.int64)
    for i in range(n):
        L = int(rng.integers(6, 81))
        if rng.random() < 0.4:
            u = arr[rng.integers(0, len(arr), L)].astype(np.int64)
            u = np.where(u >= 2043, 11, u)
        else:
            j = int(rng.integers(0, len(arr) - L))
            u = arr[j:j + L].astype(np.int64)
        out[i] = np.resize(u, T + 1)
    return out


@torch.no_grad()
def evaluate(model, arr, T=256, n=48, bs=16):
    model.eval()
    tot = cnt = 0
    for i in range(0, n, bs):
        x = torch.from_numpy(np.stack([arr[j * T:j * T + T + 1] for j in range(i, i + bs)]).astype(np.int64))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=DTYPE == torch.bfloat16):
            lg = model(input_ids=x[:, :-1], use_cache=False).logits
        tot += F.cross_entropy(lg.float().reshape(-1, lg.shape[-1]), x[:, 1:].reshape(-1), reduction="sum").item()
        cnt += x[:, 1:].numel()
    model.train()
    return tot / cnt


@torch.no_grad()
def attention_entropy(model, arr, T=256):
    """Mean entropy in nats of each layer's attention: near 0 means saturated heads."""
    was, model.config._attn_implementation = model.config._attn_implementation, "eager"
    o = model(input_ids=torch.from_numpy(np.stack([arr[j * T:j * T + T] for j in range(2)]).astype(np.int64)), output_attentions=True, use_cache=False)
    model.config._attn_implementation = was
    return [round(float(-(a.float().clamp_min(1e-9).log() * a.float()).sum(-1)[:, :, 64:].mean()), 2) for a in o.attentions]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("corpus"), ap.add_argument("tok"), ap.add_argument("out")
    ap.add_argument("--size", default="tiny")
    ap.add_argument("--minutes", type=float, default=None)
    ap.add_argument("--steps", type=int, default=None)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--opt", default="muon")
    ap.add_argument("--lr", type=float, default=3e-3, help="AdamW learning rate")
    ap.add_argument("--qk-lr", type=float, default=1.5e-3, help="AdamW learning rate of the query and key projections")
    ap.add_argument("--muon-lr", type=float, default=0.02)
    ap.add_argument("--batch-tokens", type=int, default=4096)
    ap.add_argument("--seq", type=int, default=256)
    ap.add_argument("--long-frac", type=float, default=0.2)
    ap.add_argument("--save-min", type=float, default=5)
    ap.add_argument("--eval-every", type=int, default=200)
    ap.add_argument("--copy-frac", type=float, default=0.35, help="share of self-repeating windows at the start")
    ap.add_argument("--copy-until", type=float, default=0.5, help="no such windows after this part of the run")
    ap.add_argument("--log-every", type=int, default=50)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--compile", action="store_true")
    ap.add_argument("--init", default=None, help="continue from this checkpoint folder")
    ap.add_argument("--warmup", type=int, default=100)
    ap.add_argument("--lr-floor", type=float, default=0.03)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    os.makedirs(a.out, exist_ok=True)
    train, lng, held = (tokens(a.corpus, a.tok, n) for n in ("train", "long", "held_out"))
    print("tokens: train %d long %d held %d" % (len(train), len(lng), len(held)), flush=True)
    cfg = config(a.size)
    cfg._attn_implementation = "grouped"
    model = LlamaForCausalLM.from_pretrained(a.init, dtype=torch.float32, attn_implementation="grouped") if a.init else LlamaForCausalLM(cfg)
    model.train()
    print("parameters:", sum(p.numel() for p in model.parameters()), flush=True)
    # Muon on the query and key projections lets the attention logits explode: every head became one-hot within
    # 2 000 steps, its gradient vanished and the model never learned to copy a name.  Those two go to AdamW.
    named = list(model.named_parameters())
    qk = [p for n, p in named if "q_proj" in n or "k_proj" in n]
    hid = [p for n, p in named if p.ndim == 2 and not any(k in n for k in ("embed", "q_proj", "k_proj"))]
    rest = [p for n, p in named if p.ndim != 2 or "embed" in n]
    opts = []
    if a.opt == "muon":
        opts.append(Muon(hid, lr=a.muon_lr, wd=0.1))
        opts.append(torch.optim.AdamW(qk, lr=a.qk_lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True))
    else:
        hid += qk
        opts.append(torch.optim.AdamW(hid, lr=a.lr, betas=(0.9, 0.95), weight_decay=0.05, fused=True))
    opts.append(torch.optim.AdamW(rest, lr=a.lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True))
    base = [o.param_groups[0]["lr"] for o in opts]
    torch._dynamo.config.automatic_dynamic_shapes = False
    fwd = torch.compile(model, dynamic=False) if a.compile else model
    crng = np.random.default_rng(a.seed + 300)
    b1 = batches(train, a.batch_tokens // a.seq, a.seq, a.seed)
    bl1, bl2 = batches(train, max(1, a.batch_tokens // 2048), 1024, a.seed + 100), batches(lng, max(1, a.batch_tokens // 2048), 1024, a.seed + 200)
    log = open(a.out + "/loss.csv", "a", newline="")
    w = csv.writer(log)
    if log.tell() == 0:
        w.writerow(["step", "seconds", "tokens", "seq", "lr_scale", "train_loss", "held_out_loss", "tokens_per_s"])
    t0 = last = saved = time.time()
    step = seen = lastseen = 0
    acc, na = 0.0, 0
    while True:
        prog = (time.time() - t0) / 60 / a.minutes if a.minutes else step / a.steps
        if prog >= 1:
            break
        sc = min(1.0, (step + 1) / a.warmup) * (a.lr_floor + (1 - a.lr_floor) * 0.5 * (1 + math.cos(math.pi * prog)))
        for o, b in zip(opts, base):
            o.param_groups[0]["lr"] = b * sc
        # every few steps a batch of long windows, half of the steps in the last quarter of the run
        lf = a.long_frac if prog < 0.75 else max(0.5, a.long_frac) * (a.long_frac > 0)
        longp = int((step + 1) * lf) != int(step * lf)
        x = np.concatenate([next(bl1), next(bl2)]) if longp else next(b1)
        nc = 0
        if prog < a.copy_until and not longp:
            f = a.copy_frac * min(1.0, 2 * (1 - prog / a.copy_until))
            nc = max(1, int(round(f * x.shape[0])))
            x[-nc:] = copy_windows(crng, train, nc, x.shape[1] - 1)
        x = torch.from_numpy(x)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=DTYPE == torch.bfloat16):
            lg = fwd(input_ids=x[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(lg.float().view(-1, lg.shape[-1]), x[:, 1:].reshape(-1))
        if nc and (step + 1) % a.log_every == 0:  # loss on the part of the copy windows that can be copied
            with torch.no_grad():
                print("copy loss %.3f, text loss %.3f" % (F.cross_entropy(lg[-nc:, 128:].float().reshape(-1, lg.shape[-1]), x[-nc:, 129:].reshape(-1)).item(),
                                                          F.cross_entropy(lg[:-nc].float().reshape(-1, lg.shape[-1]), x[:-nc, 1:].reshape(-1)).item()), flush=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in opts:
            o.step()
        model.zero_grad(set_to_none=True)
        acc += loss.item()
        na += 1
        step += 1
        seen += x.shape[0] * (x.shape[1] - 1)
        if step % a.log_every == 0:
            now = time.time()
            ev = evaluate(model, held) if step % a.eval_every == 0 else None
            row = [step, "%.1f" % (now - t0), seen, x.shape[1] - 1, "%.4f" % sc, "%.4f" % (acc / na), "%.4f" % ev if ev else "", "%.0f" % ((seen - lastseen) / (now - last))]
            w.writerow(row)
            log.flush()
            print(*row, flush=True)
            acc, na, last, lastseen = 0.0, 0, time.time(), seen
            if ev:
                print("attention entropy", attention_entropy(model, held), flush=True)
            if now - saved > a.save_min * 60:
                model.save_pretrained(a.out)
                saved = now
    model.save_pretrained(a.out)
    print("done: %d steps, %d tokens, %.1f min, held-out loss %.4f" % (step, seen, (time.time() - t0) / 60, evaluate(model, held, n=96)), flush=True)


if __name__ == "__main__":
    main()
