"""Loads a folder that a run with `[policy.vision]` left and compares log-probabilities of completions with `rlvr logprobs`, prompts made by
transformers' processor: python tests/golden/check_fresh_tower.py FOLDER ROWS.jsonl LOGPROBS.jsonl
ROWS have `prompt` (messages with parts `{"type": "image", "image": PATH}`) and `completion`; LOGPROBS is `rlvr logprobs --policy FOLDER ROWS`."""
import json, sys
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder, rows, found = sys.argv[1:]
model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
processor = AutoProcessor.from_pretrained(folder)
for row, line in zip(map(json.loads, open(rows)), map(json.loads, open(found)), strict=True):
    images = [Image.open(part["image"]) for message in row["prompt"] for part in message["content"] if part["type"] == "image"]
    if processor.chat_template:
        parts = [{**m, "content": [{k: v for k, v in part.items() if k != "image"} for part in m["content"]]} for m in row["prompt"]]
        text = processor.apply_chat_template(parts, add_generation_prompt=True)
    else:
        text = "\n".join("".join("<image>" if p["type"] == "image" else p["text"] for p in m["content"]) for m in row["prompt"])
    inputs = processor(text=text, images=images, return_tensors="pt", add_special_tokens=False)
    completion = processor.tokenizer(row["completion"], add_special_tokens=False, return_tensors="pt")["input_ids"]
    n, ids = inputs["input_ids"].shape[1], torch.cat([inputs["input_ids"], completion], 1)
    with torch.no_grad():
        logits = model(input_ids=ids, pixel_values=inputs["pixel_values"], pixel_attention_mask=inputs.get("pixel_attention_mask")).logits[0]
    want = logits.log_softmax(-1)[n - 1 : -1].gather(1, completion[0][:, None])[:, 0]
    got = torch.tensor(line["logprobs"][: len(want)])
    print(f"prompt of {n} tokens, {len(want)} completion tokens, log-probabilities off by {(got - want).abs().max():.1e}")
