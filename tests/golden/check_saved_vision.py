"""Loads folders that `RLVR_SAVE_TO=DIR cargo test --test vision folders_for_transformers` wrote and compares logits with those that the
golden models had: python tests/golden/check_saved_vision.py DIR"""
import json, pathlib, sys
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForImageTextToText

here = pathlib.Path(__file__).parent / "vision"
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    saved, golden = load_file(folder / "model.safetensors"), load_file(here / folder.name / "model.safetensors")
    assert saved.keys() == golden.keys() and all((saved[k] == golden[k]).all() for k in saved), folder
    rows, values = json.load(open(here / folder.name / "golden.json"))["rows"], load_file(here / folder.name / "golden.safetensors")
    for i, row in enumerate(rows):
        if row["images"]:
            continue
        ids = torch.tensor([row["prompt_ids"] + row["completions"][0]["ids"]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0].double().numpy()[::8]
        print(folder.name, "row", i, "logits off by", abs(logits - values[f"row{i}.logits"]).max())
