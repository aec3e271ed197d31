#!/usr/bin/env python3
"""Masks and losses of conversations with pictures by transformers, in float64: python3 tests/golden/make_sft_vision.py

Writes sft_vision.json: for each tiny model of vision/ and each conversation the token ids of the whole as its processor makes them,
the mask of the assistant's turns as `return_assistant_tokens_mask` gives it for the template below (the model's own with
`{% generation %}` around a turn and its end token), and the mean negative log-likelihood of the masked tokens. `steps` are the losses
of three steps of AdamW (clipped to norm 1) over batches of conversations, `held_loss` is that of others behind them.
"""

import json
import pathlib

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

HERE = pathlib.Path(__file__).parent
MODELS = ["tiny-qwen2_5_vl", "tiny-smolvlm", "tiny-qwen2_vl", "tiny-qwen3_vl"]


def chat(*turns):
    roles = {"s": "system", "u": "user", "a": "assistant"}

    def part(p):
        return {"type": "image", "image": f"images/{p[1:]}.png"} if p.startswith("@") else {"type": "text", "text": p}

    return [{"role": roles[role], "content": [part(p) for p in parts]} for role, *parts in turns]


CHATS = [
    chat(("u", "@shapes", "What colour?"), ("a", "red")),
    chat(("s", "Look."), ("u", "@bars", "Which is taller?"), ("a", "the left one"), ("u", "And here: ", "@grey", " the same?"), ("a", "no, grey")),
    chat(("u", "No picture yet."), ("a", "Show me one."), ("u", "@grey", "@shapes", "Two."), ("a", "I see both."), ("u", "@bars"), ("a", "Bars.")),
    chat(("u", "What is seen?"), ("a", "nothing")),
]
LR, BATCHES, HELD = 1e-3, [[0, 1], [2, 3], [1, 2]], [0, 2]


# The models' own templates with `{% generation %}` around what the assistant is to write, its end token included.
PARTS = "{% for p in m.content %}{% if p.type == 'image' %}IMAGE{% else %}{{ p.text }}{% endif %}{% endfor %}"
TURN = "{% if m.role == 'assistant' %}{% generation %}{{ said }}END{% endgeneration %}{% else %}{{ said }}END{% endif %}{{ '\n' }}{% endfor %}"
SYSTEM = "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
QWEN3 = (
    "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' }}{% set said %}" + PARTS + "{% endset %}" + TURN
).replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>").replace("END", "<|im_end|>")
QWEN = SYSTEM + QWEN3
SMOL = (
    "<|im_start|>{% for m in messages %}{{ m.role | capitalize }}:{% set said %}{{ '' if m.content[0].type == 'image' else ' ' }}"
    + PARTS + "{% endset %}" + TURN
).replace("IMAGE", "<image>").replace("END", "<end_of_utterance>")


MARKED = {"tiny-smolvlm": SMOL, "tiny-qwen3_vl": QWEN3}


def encoded(processor, marked, folder, messages):
    opened = [
        {**m, "content": [{**p, "image": Image.open(folder / p["image"])} if p["type"] == "image" else p for p in m["content"]]}
        for m in messages
    ]
    found = processor.apply_chat_template(
        opened, chat_template=marked, tokenize=True, return_dict=True, return_tensors="pt", return_assistant_tokens_mask=True
    )
    images = [p["image"] for m in opened for p in m["content"] if p["type"] == "image"]
    # The same text by the model's own template, which writes all special tokens itself.
    text = processor.apply_chat_template(messages, tokenize=False)
    plain = processor(text=[text], images=images or None, return_tensors="pt", add_special_tokens=False)
    ids, mask = found["input_ids"][0].tolist(), torch.as_tensor(found["assistant_masks"]).flatten().tolist()
    extra = len(ids) - plain["input_ids"].shape[1]
    assert extra in (0, 1) and ids[extra:] == plain["input_ids"][0].tolist()
    return plain, mask[extra:]


def nll(model, inputs, mask):
    """Sum of the negative log-likelihood of the masked tokens, and how many."""
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    logits = model(**inputs).logits[0]
    assert logits.dtype == torch.float64
    logps = logits.log_softmax(-1)[:-1].gather(-1, inputs["input_ids"][0][1:, None])[:, 0]
    chosen = torch.tensor(mask[1:], dtype=torch.bool)
    return -logps[chosen].sum(), int(chosen.sum())


def mean(pairs):
    sums, counts = zip(*pairs)
    return sum(sums) / sum(counts)


out = {"lr": LR, "batches": BATCHES, "held": HELD, "models": {}}
for name in MODELS:
    folder = HERE / "vision" / name
    processor = AutoProcessor.from_pretrained(folder)
    # Pillow's pixels.
    processor.image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    parsed = [encoded(processor, MARKED.get(name, QWEN), folder, messages) for messages in CHATS]
    with torch.no_grad():
        rows = [
            {"messages": messages, "ids": inputs["input_ids"][0].tolist(), "assistant": mask, "loss": mean([nll(model, inputs, mask)]).item()}
            for messages, (inputs, mask) in zip(CHATS, parsed)
        ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    steps = []
    for batch in BATCHES:
        optimizer.zero_grad()
        loss = mean([nll(model, *parsed[i]) for i in batch])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps.append(loss.item())
    with torch.no_grad():
        held = mean([nll(model, *parsed[i]) for i in HELD]).item()
    out["models"][name] = {"chats": rows, "steps": steps, "held_loss": held}
    print(name, [sum(r["assistant"]) for r in rows], [r["loss"] for r in rows], steps, held)
(HERE / "sft_vision.json").write_text(json.dumps(out) + "\n")
