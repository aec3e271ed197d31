"""Makes the small golden files of this folder from full ones: keeps what the tests read, stores it as float32.

usage: python reduce.py FULL_DIR   (needs numpy and safetensors)

The full files hold values computed with PyTorch, transformers 5.23 and TRL 1.16 in float32 and float64; the float64
values are the ones kept, rounded to float32.
"""
import json, pathlib, sys
import numpy as np
from safetensors.numpy import load_file, save_file

full, here = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent
ints = ("input_ids", "padded_ids", "padded_mask", "greedy_ids_from_padded")
f64 = ("logits_f64", "logps_f64", "logps_temp0.7_f64", "entropy_f64", "grad_f64_loss", "adamw3_f64.losses",
       "adamw3_f64.grad_norms_before_clip")
for name in ("tiny-llama", "tiny-qwen2", "tiny-qwen3"):
    data = load_file(full / f"{name}.safetensors")
    out = {k: data[k].astype(np.int32) for k in ints}
    for k, v in data.items():
        if k in f64 or k.startswith(("grad_f64.", "adamw3_f64.")):
            out[k.replace("_f64", "")] = v.astype(np.float32)
    save_file(out, here / f"{name}.safetensors")
    print(name, sum(v.nbytes for v in out.values()))
for name in ("dapo_default", "drgrpo_mu2_temp", "grpo_kl"):
    data = load_file(full / f"grpo_train_{name}.safetensors")
    out = {k.removeprefix("f64."): v.astype(np.float32) for k, v in data.items() if k.startswith("f64.")}
    save_file(out, here / f"grpo_train_{name}.safetensors")
    run = json.load(open(full / f"grpo_train_{name}.json"))
    keep = {k: run[k] for k in ("how", "config", "generation_batches", "log_f64", "max_abs_weight_change")}
    json.dump(keep, open(here / f"grpo_train_{name}.json", "w"))
    print(name, sorted(data)[:4], sum(v.nbytes for v in out.values()))
