#!/usr/bin/env python3
"""Adapters by PEFT over the tiny models beside this file, in float64: python3 tests/golden/make_lora.py

Writes lora/CASE/ (the adapter as PEFT saves it) and lora/CASE.safetensors in float32: input_ids, logps and base_logps of all
tokens but the first of each row, merged_logps, grad.* of the mean negative log-likelihood, and adamw3.*, the adapter after
three steps of AdamW (lr 0.01, betas 0.9 and 0.99, eps 1e-8, decay 0.05, clipped to norm 1).
"""

import json
import pathlib
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
CASES = {
    "llama_kv_down": ("tiny-llama", dict(r=3, lora_alpha=5, target_modules=["k_proj", "v_proj", "mlp.down_proj"])),
    "qwen2_regex_rslora": (
        "tiny-qwen2",
        dict(r=4, lora_alpha=6, use_rslora=True, target_modules=r".*\.(1|2)\.(self_attn\.(q|o)_proj|mlp\.(gate|up)_proj)"),
    ),
    "qwen3_all_patterns": (
        "tiny-qwen3",
        dict(
            r=2,
            lora_alpha=8,
            target_modules="all-linear",
            exclude_modules=["o_proj"],
            rank_pattern={r"0\.self_attn\.v_proj": 5, "v_proj": 1},
            alpha_pattern={"gate_proj": 3, r"layers\.2\..*": 1},
        ),
    ),
}


def logps(model, ids):
    logits = model(input_ids=ids).logits
    assert logits.dtype == torch.float64
    return logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]


def f32(tensors):
    return {name: t.detach().to(torch.float32).contiguous() for name, t in tensors.items()}


for seed, (case, (name, settings)) in enumerate(CASES.items()):
    torch.manual_seed(seed)
    load = lambda: AutoModelForCausalLM.from_pretrained(HERE / "models" / name, dtype=torch.float64, attn_implementation="eager")
    folder = HERE / "lora" / case
    shutil.rmtree(folder, ignore_errors=True)
    model = get_peft_model(load(), LoraConfig(task_type="CAUSAL_LM", **settings))
    for key, p in model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(p, std=0.2)
    model.to(torch.float32).save_pretrained(folder)
    for extra in folder.glob("README.md"):
        extra.unlink()
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = name
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    # Float32 as it was saved, computed with in float64.
    model = PeftModel.from_pretrained(load(), folder, is_trainable=True).to(torch.float64)
    ids = torch.randint(4, model.config.vocab_size, (2, 13))
    out = {"input_ids": ids.to(torch.uint32)}
    lp = logps(model, ids)
    out |= f32({"logps": lp})
    with model.disable_adapter():
        out |= f32({"base_logps": logps(model, ids)})
    (-lp.mean()).backward()
    grads = {k.replace(".default", ""): p.grad for k, p in model.named_parameters() if p.requires_grad}
    out |= f32({f"grad.{k}": g for k, g in grads.items()})
    params = [p for p in model.parameters() if p.requires_grad]
    optim = torch.optim.AdamW(params, lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.05)
    for _ in range(3):
        optim.zero_grad()
        (-logps(model, ids).mean()).backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optim.step()
    out |= f32({f"adamw3.{k}": t for k, t in get_peft_model_state_dict(model).items()})
    merged = PeftModel.from_pretrained(load(), folder).to(torch.float64).merge_and_unload()
    out |= f32({"merged_logps": logps(merged, ids)})
    save_file(out, HERE / "lora" / f"{case}.safetensors")
    changed = (out["logps"] - out["base_logps"]).abs().max().item()
    print(f"{case}: {len(grads)} tensors, changes log-probabilities by up to {changed:.2f}")
