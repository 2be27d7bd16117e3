"""Small tokenizers of the parts that src/tokenizer takes, and what Python's `tokenizers` makes of awkward texts.

python make_tokenizers.py writes tokenizers.json (tokenizers 0.23.3, sentencepiece 0.2.3).
"""

import io
import json
from pathlib import Path
from tempfile import NamedTemporaryFile

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, models, trainers
from tokenizers import decoders as D
from tokenizers import normalizers as N
from tokenizers import pre_tokenizers as P
from tokenizers import processors as R

CORPUS = [
    "the quiet river watches the golden harbour and the painter measures lanterns at dawn",
    "don't we'll I'm you're THEY'VE he'd; Hello world! It's a test. 1234567 and 3.14%",
    "naïve café Zürich привет мир 今日は天気がいい 안녕하세요 مرحبا 🙂🚀",
] * 3

TEXTS = [
    "",
    " ",
    "Hello world",
    "  leading and   inner  spaces  ",
    "Don't measure 12 345,678 lanterns... ok?!",
    "tabs\tand\nnew\r\n\nlines\u0085nel\u2028ls",
    "\ufeffbom in\ufefffront, \u200bzero\u200dwidth\u00adsoft",
    "👩‍👩‍👧 🇵🇹 ✌🏽 ❤️ cafe\u0301 a\u0344 ½ ² ٣ № ﬁ ｆｕｌｌ",
    "ΟΔΟΣ Σ İI ß ŉ Ǆ नमस्ते ไทย 𠀀𠀁 日本",
    "before<sp>after <L> left <R>  right  <LR>  both <sp>x",
    "word sword word, é1 é1x <norm>Hello w",
    "\u0000\u0001a\u007fb\ufffdc\ue000",
    "▁meta ▁▁ space_ <0x41>Ġ ## [UNK] <unk>",
]

ADDED = [
    AddedToken("<sp>", special=True),
    AddedToken("<sp>x", special=True),
    AddedToken("<norm>", normalized=True),
    AddedToken("<L>", lstrip=True),
    AddedToken("<R>", rstrip=True, special=True),
    AddedToken("<LR>", lstrip=True, rstrip=True, normalized=False),
]
BYTES = sorted(P.ByteLevel.alphabet())
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train(model, trainer, normalizer=None, pre=None, decoder=None, post=None):
    t = Tokenizer(model)
    if normalizer is not None:
        t.normalizer = normalizer
    if pre is not None:
        t.pre_tokenizer = pre
    t.train_from_iterator(CORPUS, trainer)
    if decoder is not None:
        t.decoder = decoder
    if post is not None:
        t.post_processor = post
    t.add_tokens(ADDED)
    return t


def bpe(normalizer=None, pre=None, decoder=None, post=None, size=320, alphabet=(), model=None, **options):
    unk = (model or {}).get("unk_token")
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[unk] if unk else [], initial_alphabet=list(alphabet), show_progress=False, **options
    )
    return train(models.BPE(**(model or {})), trainer, normalizer, pre, decoder, post)


def byte_level(*splits, size=300):
    pre = P.Sequence([*splits, P.ByteLevel(add_prefix_space=False, use_regex=False)])
    return bpe(None, pre, D.ByteLevel(), size=size, alphabet=BYTES)


def with_bytes(t):
    """The same with <0x00> to <0xFF>."""
    j = json.loads(t.to_str())
    for i in range(256):
        j["model"]["vocab"].setdefault(f"<0x{i:02X}>", 1000 + i)
    j["model"]["byte_fallback"] = True
    return Tokenizer.from_str(json.dumps(j))


CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
UNK = {"unk_token": "<unk>"}
SPM_DECODER = D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)])


def make_tokenizers():
    return {
        "byte level": byte_level(P.Split(Regex(O200K), "isolated")),
        "CLIP": bpe(
            N.Sequence([N.NFC(), N.Replace(Regex(r"\s+"), " "), N.Lowercase()]),
            P.Sequence([P.Split(Regex(CLIP), "removed", invert=True), P.ByteLevel(add_prefix_space=False)]),
            D.ByteLevel(), R.RobertaProcessing(("!", 1), ('"', 2), trim_offsets=False, add_prefix_space=False),
            size=400, alphabet=BYTES, model={**UNK, "end_of_word_suffix": "</w>"}, end_of_word_suffix="</w>",
        ),
        "Llama 2": with_bytes(
            bpe(N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), None, SPM_DECODER, model={**UNK, "fuse_unk": True}, size=200)
        ),
        "Metaspace": bpe(N.NFKC(), P.Metaspace(), D.Metaspace(), model={**UNK, "fuse_unk": True}, size=150),
        "bare": bpe(None, None, None, model=UNK, size=150),
        "WordPiece": train(
            models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20),
            trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False),
            N.BertNormalizer(), P.BertPreTokenizer(), D.WordPiece(), R.BertProcessing(("[SEP]", 2), ("[CLS]", 1)),
        ),
        "Unigram": unigram(),
    }


def unigram():
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    return train(models.Unigram(), trainer, N.NFKC(), P.Metaspace(), D.Metaspace())


RULES = {
    "\t": " ", "\r": " ", "H": "h", "½": "1/2", "e\u0301": "é", "ﬁ": "fi", "\u200b": "", "№": "No", "👩": "w",
    "✌🏽": "v", "ŉ": "ʼn", "ß": "ss", "ไ": "i", "a\u0344": "ä",
}


def charsmap():
    """RULES as SentencePiece compiles them."""
    model = io.BytesIO()
    with NamedTemporaryFile("w", suffix=".tsv") as file:
        for rule in RULES.items():
            file.write("\t".join(" ".join(f"{ord(c):04X}" for c in side) for side in rule) + "\n")
        file.flush()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=100, normalization_rule_tsv=file.name,
            hard_vocab_limit=False, minloglevel=2,
        )
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    return proto.normalizer_spec.precompiled_charsmap


NORMALIZERS = [
    N.BertNormalizer(),
    N.BertNormalizer(lowercase=False),
    N.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=False),
    N.Lowercase(), N.NFC(), N.NFD(), N.NFKC(), N.NFKD(), N.Prepend("▁"), N.StripAccents(),
    N.Replace(" ", "$&"), N.Replace(Regex(r"[aeiou]\s*"), "<$1>"), N.Strip(left=False),
    N.Sequence([N.NFD(), N.Lowercase(), N.StripAccents()]),
    N.Precompiled(charsmap()),
    N.Sequence([N.Strip(left=False), N.Precompiled(charsmap()), N.Replace(Regex(" {2,}"), "▁")]),
]
PRE_TOKENIZERS = [
    P.BertPreTokenizer(), P.ByteLevel(), P.ByteLevel(add_prefix_space=False), P.ByteLevel(use_regex=False),
    P.Digits(), P.Digits(True), P.Metaspace(),
    P.Metaspace(prepend_scheme="first", replacement="_"), P.Metaspace(prepend_scheme="never", split=False),
    P.Punctuation(), P.Punctuation("contiguous"), P.Whitespace(), P.WhitespaceSplit(),
    *(
        P.Split(pattern, behavior, invert=invert)
        for pattern in (Regex(r"[aeiou]| +"), " ")
        for behavior in ("removed", "isolated")
        for invert in (False, True)
    ),
    *(P.Split(" ", behavior) for behavior in ("merged_with_previous", "merged_with_next", "contiguous")),
    *(P.Split(Regex(r), "isolated") for r in (O200K, r" ?[^(\s|[.,!?…。，、।۔،])]+", r"x*", r"\w+|[^\w\s]+", r"^\S+|\S+$")),
    P.Split(Regex(CLIP), "removed", invert=True),
    P.Sequence([P.Split(Regex(r), "isolated") for r in (r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK)]),
    P.Sequence([P.Punctuation("contiguous"), P.ByteLevel(add_prefix_space=False), P.Digits(), P.Split(Regex("[0-9]{3}"), "isolated")]),
]
DECODERS = [
    D.BPEDecoder(), D.ByteFallback(), D.Fuse(), D.Metaspace(), D.Metaspace(prepend_scheme="never"), D.Replace("a", "$1"),
    D.Replace(Regex("[ab]+"), "x"), D.WordPiece(), D.WordPiece(cleanup=False), SPM_DECODER, D.Strip("▁", 1, 0),
]
TOKENS = [
    ["▁Hello", "▁world"], ["▁a", "▁", "▁▁c"], ["a</w>", "b", "c</w>"], ["<pad>", "a", "a", "<pad>", "a", "|", "b", "|"],
    ["<0xE4>", "<0xBB>", "<0xA0>", "a", "<0xEF>", "<0xBB>", "<0xBF>", "x", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>"],
    ["do", "n't", "##x", "##", ".", "'s", "## ,"], ["ab", "ba"],
]


def case(t, i, text):
    other = TEXTS[(i + 3) % len(TEXTS)]
    size = t.get_vocab_size()
    some = [(j * 37 + i * 11) % size for j in range(i)]
    pair = t.encode(text, other)
    t.enable_truncation(9, direction="left" if i % 2 else "right")
    short, short_pair = t.encode(text).ids, t.encode(text, other).ids
    t.no_truncation()
    ids = t.encode(text).ids
    return dict(
        text=text, ids=ids, decoded=t.decode(ids, skip_special_tokens=False), skipped=t.decode(ids), some=some,
        some_decoded=t.decode(some, skip_special_tokens=False), pair=other, pair_ids=pair.ids, pair_types=pair.type_ids,
        truncated=short, truncated_pair=short_pair,
    )


def part(p):
    """The part's own JSON."""
    return json.loads(p.__getstate__())


if __name__ == "__main__":
    made = dict(
        texts=TEXTS,
        tokens=TOKENS,
        normalizers=[dict(config=part(n), texts=[n.normalize_str(t) for t in TEXTS]) for n in NORMALIZERS],
        pre_tokenizers=[dict(config=part(p), pieces=[[s for s, _ in p.pre_tokenize_str(t)] for t in TEXTS]) for p in PRE_TOKENIZERS],
        decoders=[dict(config=part(d), texts=[d.decode(t) for t in TOKENS]) for d in DECODERS],
        tokenizers={
            name: dict(json=json.loads(t.to_str()), cases=[case(t, i, x) for i, x in enumerate(TEXTS)])
            for name, t in make_tokenizers().items()
        },
    )
    path = Path(__file__).with_name("tokenizers.json")
    path.write_text(json.dumps(made, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(path.stat().st_size)
