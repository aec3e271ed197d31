#!/usr/bin/env python3
"""Makes tests/golden/policy from tests/golden/models. Needs: pip install gguf transformers torch jinja2 sentencepiece

blocks.gguf / blocks.safetensors   random blocks of every quantised format, and what the package `gguf` makes of them
tiny-llama.gguf, tiny-qwen2.gguf   the first layer of the tiny models as llama.cpp's converter writes it (q and k rows of
                                   llama permuted), with their tokenizers and templates in the metadata
rope.json                          rotary frequencies by transformers for each kind of scaling
settings.json                      log-probabilities and greedy tokens of the tiny models under changed configs, by
                                   transformers in float64
spm.gguf, spm.json                 a small SentencePiece model as GGUF metadata, and what sentencepiece encodes
chat.json                          a template that uses what real templates use, rendered by transformers
"""
import json, pathlib, sys
import numpy as np
import gguf
from gguf import GGMLQuantizationType as Q
from gguf.quants import dequantize, quantize
from safetensors.numpy import load_file, save_file

here = pathlib.Path(__file__).parent
out = here / "policy"
out.mkdir(exist_ok=True)
rng = np.random.default_rng(7)


def halves(n, scale):
    return (rng.standard_normal(n) * scale).astype(np.float16).view(np.uint8).reshape(n, 2)


def blocks():
    """Two rows of 512 elements in each format; scales are ordinary numbers, everything else is random bytes."""
    writer = gguf.GGUFWriter(out / "blocks.gguf", "llama")
    expected = {}
    for q, halves_at in [(Q.Q4_0, [0]), (Q.Q4_1, [0, 2]), (Q.Q5_0, [0]), (Q.Q5_1, [0, 2]), (Q.Q8_0, [0]),
                         (Q.Q4_K, [0, 2]), (Q.Q5_K, [0, 2]), (Q.Q6_K, [208])]:
        block, size = gguf.GGML_QUANT_SIZES[q]
        n = 1024 // block
        raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
        for at in halves_at:
            raw[:, at:at + 2] = halves(n, 0.05)
        raw = raw.reshape(2, -1)
        writer.add_tensor(q.name, raw, raw_dtype=q)
        expected[q.name] = dequantize(raw, q).astype(np.float32)
    values = rng.standard_normal((2, 512)).astype(np.float32)
    for q in (Q.F32, Q.F16, Q.BF16):
        raw = values if q == Q.F32 else values.astype(np.float16) if q == Q.F16 else quantize(values, Q.BF16)
        writer.add_tensor(q.name, raw, raw_dtype=q)
        expected[q.name] = dequantize(raw, q).astype(np.float32).reshape(2, 512)
    writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
    save_file(expected, out / "blocks.safetensors")


def permute(w, heads):
    """llama.cpp's converter: half-split rows of q and k to interleaved ones"""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


PART = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
       "lm_head.weight": "output.weight"}


def model(name, arch, pre):
    folder = here / "models" / name
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    w = gguf.GGUFWriter(out / f"{name}.gguf", arch)
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    w.add_context_length(config["max_position_embeddings"]); w.add_embedding_length(config["hidden_size"])
    w.add_block_count(1); w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(heads); w.add_head_count_kv(kv); w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    vocab = tokenizer["model"]["vocab"]
    added = {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
    names = {i: t for t, i in {**vocab, **added}.items()}
    kinds = [3 if names.get(i) in added else 1 if i in names else 5 for i in range(config["vocab_size"])]
    w.add_tokenizer_model("gpt2"); w.add_tokenizer_pre(pre)
    w.add_token_list([names.get(i, f"[PAD{i}]") for i in range(config["vocab_size"])])
    w.add_token_types(kinds)
    w.add_token_merges([" ".join(m) for m in tokenizer["model"]["merges"]])
    w.add_bos_token_id(config["bos_token_id"]); w.add_eos_token_id(config["eos_token_id"])
    w.add_pad_token_id(config["pad_token_id"]); w.add_add_bos_token(arch == "llama")
    w.add_chat_template((folder / "chat_template.jinja").read_text())
    for hf, t in load_file(folder / "model.safetensors").items():
        if hf in TOP:
            to = TOP[hf]
        elif hf.startswith("model.layers.0."):
            part, suffix = hf.removeprefix("model.layers.0.").rsplit(".", 1)
            to = f"blk.0.{PART[part]}.{suffix}"
        else:
            continue
        if arch == "llama" and "q_proj" in hf: t = permute(t, heads)
        if arch == "llama" and "k_proj" in hf: t = permute(t, kv)
        q = Q.F32 if t.ndim == 1 or "q_proj" in hf else Q.BF16 if "k_proj" in hf else \
            Q.F16 if t.shape[1] % 32 else Q.Q5_1 if "embed" in hf else Q.Q4_1 if "lm_head" in hf else Q.Q8_0
        w.add_tensor(to, quantize(t, q) if q not in (Q.F32, Q.F16) else t.astype(np.float16 if q == Q.F16 else np.float32),
                     raw_dtype=q)
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()


def rope():
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
    cases = []
    for scaling in [None, {"rope_type": "linear", "factor": 4.0},
                    {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 8192},
                    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.5, "high_freq_factor": 5.0,
                     "original_max_position_embeddings": 256},
                    {"rope_type": "dynamic", "factor": 4.0},
                    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
                    {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 0.707,
                     "mscale_all_dim": 1.0, "beta_fast": 16, "beta_slow": 2},
                    {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 1024,
                     "attention_factor": 1.5, "truncate": False},
                    {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 16},
                    {"rope_type": "yarn", "factor": 0.5, "original_max_position_embeddings": 8192}]:
        c = dict(model_type="llama", vocab_size=32, hidden_size=256, intermediate_size=64, num_hidden_layers=1,
                 num_attention_heads=4, num_key_value_heads=4, head_dim=64, max_position_embeddings=131072,
                 rope_parameters={"rope_theta": 500000.0, "rope_type": "default", **(scaling or {})})
        rope = LlamaRotaryEmbedding(LlamaConfig(**{k: v for k, v in c.items() if k != "model_type"}))
        cases.append({"config": c, "inv_freq": rope.inv_freq.double().tolist(), "attention_factor": rope.attention_scaling})
    (out / "rope.json").write_text(json.dumps(cases, indent=1) + "\n")


def settings():
    """Family and setting: the weights of a tiny model beside a config.json with changes."""
    import tempfile, torch
    from transformers import AutoModelForCausalLM
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    shared = {
        "default": {},
        "linear": {"rope_parameters": {"rope_type": "linear", "factor": 4.0}},
        "dynamic": {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}},
        "llama3": {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                       "high_freq_factor": 4.0, "original_max_position_embeddings": 64}},
        "yarn": {"rope_parameters": yarn},
        "yarn, betas and mscale": {"rope_parameters": {**yarn, "beta_fast": 16, "beta_slow": 2, "mscale": 1.3,
                                                       "mscale_all_dim": 0.5}},
        "yarn, attention_factor, not truncated": {"rope_parameters": {**yarn, "attention_factor": 1.4, "truncate": False}},
        "yarn in the old layout": {"rope_parameters": None, "rope_theta": 5e4, "rope_scaling": {**yarn, "type": "yarn"}},
        "yarn, original context beside it": {"rope_parameters": yarn, "original_max_position_embeddings": 16},
        "rope_scaling beside rope_parameters": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_theta": 1e6},
    }
    window = {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1, "layer_types": None}
    mistral = {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    own = {
        "llama": ("tiny-llama", {"tied beside another head": {"tie_word_embeddings": True}}),
        "mistral": ("tiny-llama", {"window": {"sliding_window": 24}, "no window": {"sliding_window": None}}),
        "qwen2": ("tiny-qwen2", {"window": window}),
        "qwen3": ("tiny-qwen3", {"window": window}),
    }
    ids = [(7 * i * i + 13 * i + 5) % 380 + 4 for i in range(100)]
    cases = []
    for family, (model, more) in own.items():
        folder = here / "models" / model
        config = json.loads((folder / "config.json").read_text())
        for setting, changes in {**shared, **more}.items():
            changes = {**(mistral if family == "mistral" else {}), **changes}
            with tempfile.TemporaryDirectory() as dir:
                dir = pathlib.Path(dir)
                (dir / "config.json").write_text(json.dumps({**config, **changes}))
                (dir / "model.safetensors").symlink_to((folder / "model.safetensors").resolve())
                m = AutoModelForCausalLM.from_pretrained(dir, dtype=torch.float64, attn_implementation="eager").eval()
            with torch.no_grad():
                lp = m(torch.tensor([ids])).logits.log_softmax(-1)[0]
                greedy = m.generate(torch.tensor([ids[:40]]), max_new_tokens=12, do_sample=False, eos_token_id=None)
            cases.append({"family": family, "setting": setting, "model": model, "changes": changes,
                          "logprobs": [round(lp[i, t].item(), 9) for i, t in enumerate(ids[1:])],
                          "greedy": greedy[0, 40:].tolist()})
    head = json.dumps({"ids": ids, "cases": []})[:-2]
    (out / "settings.json").write_text(head + "\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]}\n")


TEMPLATE = """{#- what templates of real models do -#}
{%- set ns = namespace(found=false, n=0) %}
{%- macro header(role) -%}
<|{{ role | upper }}|>
{%- endmacro %}
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0].content | trim %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set system = "" %}
    {%- set rest = messages %}
{%- endif %}
{%- if system is defined and system != "" %}
{{ header('system') }}{{ system }}{{ eos_token }}
{% endif %}
{% for message in rest %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('roles must alternate ' ~ loop.index) }}
    {% endif %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = message.content | map(attribute='text') | join('|') %}
    {%- endif %}
    {%- if '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if content.startswith('skip') %}{% continue %}{% endif %}
    {%- set ns.n = ns.n + 1 %}
{{ '[' ~ loop.index ~ (' last' if loop.last else '') ~ '] ' }}{{ header(message.role) }}
    {%- if message.role == 'assistant' %}
{% generation %}
 {{ content.strip() }}{{ eos_token }}
{% endgeneration %}
    {%- else %}
 {{ content.replace('a', 'A') }}
    {%- endif %}
    {%- for key, value in (message.extra or {}).items() %}
{{ key }}={{ value | tojson }}
    {%- endfor %}

{% endfor %}
{{- ns.n }}/{{ rest | length }} {{ tools is none }} {{ documents is defined }} {{ missing is defined }}
{%- if add_generation_prompt %}{{ '\\n<|ASSISTANT|>\\n' }}{% endif %}
"""


def chat():
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(here / "models" / "tiny-llama")
    conversations = [
        [{"role": "user", "content": "banana"}],
        [{"role": "system", "content": "  Be brief. "}, {"role": "user", "content": "a <b> & 'c' \"d\" é 日本\n"},
         {"role": "assistant", "content": "<think>hm</think>\n\n  42 "}, {"role": "user", "content": "skip"}],
        [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}],
          "extra": {"a": [1, 2.5, "é <\"'>", None, True], "b": {"k": "v", "l": []}}}],
    ]
    cases = []
    for messages in conversations:
        for prompt in (False, True):
            text = tokenizer.apply_chat_template(messages, chat_template=TEMPLATE, add_generation_prompt=prompt,
                                                 tokenize=False)
            cases.append({"messages": messages, "add_generation_prompt": prompt, "text": text})
    (out / "chat.json").write_text(json.dumps({"template": TEMPLATE, "bos_token": tokenizer.bos_token,
                                               "eos_token": tokenizer.eos_token, "cases": cases}, indent=1) + "\n")


def spm():
    import codecs, io, this
    import sentencepiece
    corpus = codecs.decode(this.s, "rot13").split("\n") * 4 + pathlib.Path(__file__).read_text().split("\n")
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=trained, model_type="bpe", vocab_size=600, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, character_coverage=0.98, minloglevel=2)
    sp = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    n = sp.vocab_size()
    kinds = [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1 for i in range(n)]
    w = gguf.GGUFWriter(out / "spm.gguf", "llama")
    w.add_tokenizer_model("llama"); w.add_tokenizer_pre("default")
    w.add_token_list([sp.id_to_piece(i) for i in range(n)]); w.add_token_scores([sp.get_score(i) for i in range(n)])
    w.add_token_types(kinds)
    w.add_bos_token_id(sp.bos_id()); w.add_eos_token_id(sp.eos_id()); w.add_unk_token_id(sp.unk_id())
    w.write_header_to_file(); w.write_kv_data_to_file(); w.close()
    texts = [c["text"] for c in json.loads((here / "tiny-llama.json").read_text())["encode"] if "<|" not in c["text"]]
    texts += [line for line in corpus[-120:] if line] + ["  two  spaces ", " \n \n", "x" * 50, "Beautiful is better than ugly."]
    cases = [{"text": t, "ids": sp.encode(t), "decoded": sp.decode(sp.encode(t))} for t in texts]
    (out / "spm.json").write_text(json.dumps({"bos": sp.bos_id(), "cases": cases}) + "\n")


blocks()
spm()
model("tiny-llama", "llama", "llama-bpe")
model("tiny-qwen2", "qwen2", "qwen2")
rope()
settings()
chat()
