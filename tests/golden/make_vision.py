"""Small extracts of golden values of models that see, and of Pillow's and transformers' preprocessing.

    python tests/golden/make_vision.py FOLDER

FOLDER has tiny models as Hugging Face folders (transformers 5.24, PyTorch 2.15 in float64, Pillow 13) with `golden.json`,
`golden.safetensors`, `grads.safetensors`, and `preprocessing`. Of pixels the SHA-256 is kept, of gradients some elements."""
import hashlib, json, pathlib, shutil, sys
import numpy as np
from safetensors.numpy import load_file, save_file

source, out = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent / "vision"
digest = lambda a: hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()
MODELS = ["tiny-qwen2_5_vl", "tiny-smolvlm", "tiny-qwen2_vl", "tiny-qwen3_vl"]


def preprocessing():
    here = source / "preprocessing"
    cases, resized = json.load(open(here / "preprocessing.json")), load_file(here / "resize.safetensors")
    inputs = {}
    for case in cases["resize"]:
        inputs[case["name"]] = resized[case["name"] + ".in"]
        case["sha256"] = digest(resized[case["name"] + ".out"])
    save_file(inputs, out / "resize.safetensors")
    shutil.copytree(here / "decode", out / "decode", dirs_exist_ok=True)
    shutil.copy(here / "decode.safetensors", out / "decode.safetensors")
    json.dump(cases, open(out / "preprocessing.json", "w"), indent=1)


def extract(name):
    folder, to = source / name, out / name
    to.mkdir(parents=True, exist_ok=True)
    for file in ["config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json",
                 "generation_config.json", "chat_template.jinja", "model.safetensors"]:
        if (folder / file).exists():
            shutil.copy(folder / file, to / file)
    shutil.copytree(folder / "images", to / "images", dirs_exist_ok=True)
    golden, values, grads = json.load(open(folder / "golden.json")), load_file(folder / "golden.safetensors"), load_file(folder / "grads.safetensors")
    kept, pixels = {}, {}
    for key, value in values.items():
        if ".pixel_" in key:
            pixels[key] = digest(value)
        elif key.endswith(".logits"):
            kept[key] = np.ascontiguousarray(value[::8])
        elif not key.endswith(".vision_last"):
            kept[key] = value
    golden["pixels"] = pixels
    golden["grads"] = {k: dict(largest=float(abs(g).max()), squares=float((g.astype(np.float64) ** 2).sum()),
                               some=[float(v) for v in g.ravel()[:: max(1, g.size // 11)]]) for k, g in grads.items()}
    save_file(kept, to / "golden.safetensors")
    json.dump(golden, open(to / "golden.json", "w"))


out.mkdir(exist_ok=True)
preprocessing()
for model in MODELS:
    extract(model)
