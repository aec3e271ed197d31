#!/usr/bin/env python3
"""Writes families.json: what transformers computes, in float64, with tiny models of every family.

    pip install transformers torch
    python3 tests/golden/make_families.py [NAME...]

With names, only these models are computed, and the others kept as they are.
Weights are not stored: element i of tensor number t (names sorted) is `scale(name) · ((7919 i + 104729 t) mod 2003 / 2003 − 1/2)`,
which policies/tests/families.rs makes anew. Of gradients, the sum of squares and some elements are stored.
"""
import json, pathlib, sys
import torch
from transformers import AutoConfig, AutoModelForCausalLM

BASE = dict(vocab_size=97, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0)

def case(kind, **more):
    return dict(BASE, model_type=kind, **more)

THETA = {"rope_type": "default", "rope_theta": 10000.0}
LONG = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.3], "long_factor": [2.0, 5.0],
        "original_max_position_embeddings": 96, "partial_rotary_factor": 0.67}
CASES = {
    "llama biases": case("llama", attention_bias=True, mlp_bias=True),
    "mistral window": case("mistral", head_dim=8, sliding_window=9),
    "qwen2 windows": case("qwen2", use_sliding_window=True, sliding_window=7, max_window_layers=1),
    "qwen3 windows": case("qwen3", head_dim=8, use_sliding_window=True, sliding_window=11,
                          layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
    "qwen3 biases": case("qwen3", head_dim=10, attention_bias=True, tie_word_embeddings=True),
    "smollm3": case("smollm3", no_rope_layer_interval=2),
    "smollm3 windows": case("smollm3", no_rope_layers=[1, 0, 1], use_sliding_window=True, sliding_window=6,
                            attention_bias=True, mlp_bias=True, tie_word_embeddings=False),
    "gemma2": case("gemma2", head_dim=8, query_pre_attn_scalar=20, attn_logit_softcapping=3.0,
                   final_logit_softcapping=2.0, sliding_window=8),
    "gemma2 uncapped": case("gemma2", head_dim=6, query_pre_attn_scalar=6, attn_logit_softcapping=None,
                            final_logit_softcapping=None, sliding_window=5,
                            layer_types=["full_attention", "sliding_attention", "sliding_attention"]),
    "gemma3": case("gemma3_text", head_dim=8, query_pre_attn_scalar=12, sliding_window=8,
                   layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
    "gemma3 stretched": case("gemma3_text", head_dim=8, query_pre_attn_scalar=8, sliding_window=9, sliding_window_pattern=2,
                             rope_parameters={"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                                              "sliding_attention": {"rope_type": "default", "rope_theta": 5e3}},
                             final_logit_softcapping=4.0),
    "phi3": case("phi3"),
    "phi3 window": case("phi3", sliding_window=10, tie_word_embeddings=True),
    "phi3 partial": case("phi3", rope_parameters=dict(THETA, partial_rotary_factor=0.7)),
    "phi3 longrope": case("phi3", rope_parameters=LONG, original_max_position_embeddings=96),
    "phi3 longrope by an old name": case("phi3", rope_parameters=dict(LONG, rope_type="yarn"),
                                         original_max_position_embeddings=96),
    "olmo2": case("olmo2"),
    "olmo2 biases": case("olmo2", attention_bias=True, num_key_value_heads=4, tie_word_embeddings=True),
    "granite": case("granite", embedding_multiplier=6.0, residual_multiplier=0.4, attention_multiplier=0.2,
                    logits_scaling=3.0),
    "granite biases": case("granite", attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "qwen3 experts": case("qwen3_moe", head_dim=8, num_experts=5, num_experts_per_tok=2, moe_intermediate_size=12,
                          norm_topk_prob=True),
    # The padding token is one of the text.
    "llama padding": case("llama", tie_word_embeddings=True, pad_token_id=25),
    "olmo3": case("olmo3", sliding_window=7, pad_token_id=25,
                  layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                  rope_parameters={"full_attention": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 5e3,
                                                      "original_max_position_embeddings": 32},
                                   "sliding_attention": {"rope_type": "default", "rope_theta": 5e3}}),
    "gemma3 unbounded": case("gemma3_text", head_dim=8, query_pre_attn_scalar=8, sliding_window=8, pad_token_id=25,
                             attn_logit_softcapping=1.0),
    "ministral": case("ministral", head_dim=8, sliding_window=9,
                      layer_types=["full_attention", "sliding_attention", "full_attention"]),
    "qwen3 experts, one dense": case("qwen3_moe", head_dim=8, num_experts=4, num_experts_per_tok=3,
                                     moe_intermediate_size=10, norm_topk_prob=False, mlp_only_layers=[1],
                                     attention_bias=True, use_sliding_window=True, sliding_window=9),
}

def scale(name, plus_one):
    if name.endswith("norm.weight") or "layernorm" in name:
        return (0.6, 0.0 if plus_one else 1.0)
    return (0.5, 0.0) if name.endswith("bias") else (1.1, 0.0) if "embed" in name else (0.7, 0.0)


def split_experts(name, tensor):
    """Hugging Face files have an expert's matrices apart, modules may have them in one."""
    if name.endswith("mlp.experts.gate_up_proj"):
        for e, both in enumerate(tensor):
            gate, up = both.chunk(2)
            yield name.replace("gate_up_proj", f"{e}.gate_proj.weight"), gate
            yield name.replace("gate_up_proj", f"{e}.up_proj.weight"), up
    elif name.endswith("mlp.experts.down_proj"):
        for e, down in enumerate(tensor):
            yield name.replace("down_proj", f"{e}.down_proj.weight"), down
    else:
        yield name, tensor

def gradients(parameters):
    grads = {}
    for name, p in parameters.items():
        for part, g in split_experts(name, p.grad):
            g = g.flatten()
            grads[part] = dict(largest=g.abs().max().item(), squares=(g * g).sum().item(),
                               some=g[:: max(1, len(g) // 7)].tolist())
    return grads

def run(config):
    torch.manual_seed(0)
    kind = dict(config)
    c = AutoConfig.for_model(kind.pop("model_type"), **kind)
    c._attn_implementation = "eager"
    if hasattr(c, "_experts_implementation"):
        c._experts_implementation = "eager"
    model = AutoModelForCausalLM.from_config(c).double().eval()
    parameters = dict(model.named_parameters())
    files = {}
    for name, p in parameters.items():
        files.update(split_experts(name, p.data))
    plus_one = config["model_type"].startswith("gemma")
    for t, name in enumerate(sorted(files)):
        to = files[name]
        by, around = scale(name, plus_one)
        i = torch.arange(to.numel(), dtype=torch.int64)
        values = by * (((7919 * i + 104729 * t) % 2003).double() / 2003 - 0.5) + around
        to.copy_(values.float().double().reshape(to.shape))
    ids = torch.tensor([[(17 * i * i + 5 * i + 31 * s + 3) % 97 for i in range(40)] for s in range(2)])
    log_p = model(ids).logits.log_softmax(-1)
    lp = log_p[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    (-lp.mean()).backward()
    grads = gradients(parameters)
    balance = None
    if config["model_type"].endswith("moe"):
        # The last token of a sequence predicts nothing and is no row of ours.
        mask = torch.ones_like(ids)
        mask[:, -1] = 0
        model.zero_grad()
        out = model(ids, attention_mask=mask, output_router_logits=True)
        lp2 = out.logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
        (0.5 * out.aux_loss - lp2.mean()).backward()
        balance = dict(weight=0.5, value=out.aux_loss.item(), grads=gradients(parameters))
    greedy = ids[:, :12]
    margin = 1e9
    with torch.no_grad():
        for _ in range(14):
            last = model(greedy).logits[:, -1]
            top = last.topk(2).values
            margin = min(margin, (top[:, 0] - top[:, 1]).min().item())
            greedy = torch.cat([greedy, last.argmax(-1, keepdim=True)], 1)
    shapes = {name: list(t.shape) for name, t in sorted(files.items())}
    return dict(config=config, shapes=shapes, ids=ids.tolist(), logps=lp.tolist(), grads=grads, balance=balance,
                greedy=greedy[:, 12:].tolist(), margin=margin)

def rounded(x):
    if isinstance(x, float):
        return float(f"{x:.9g}")
    if isinstance(x, dict):
        return {k: rounded(v) for k, v in x.items()}
    return [rounded(v) for v in x] if isinstance(x, list) else x

path = pathlib.Path(__file__).parent / "families.json"
asked = sys.argv[1:] or list(CASES)
kept = json.loads(path.read_text()) if sys.argv[1:] else {}
out = {name: rounded(run(config)) if name in asked else kept[name] for name, config in CASES.items()}
for name in asked:
    print(name, "margin", out[name]["margin"], file=sys.stderr)
path.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in out.items()) + "\n}\n")
