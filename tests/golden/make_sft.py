#!/usr/bin/env python3
"""Masks and losses of conversations by transformers, in float64: python3 tests/golden/make_sft.py

Writes sft.json: for each conversation the token ids of the whole, the mask of the assistant's turns as
`return_assistant_tokens_mask` gives it for the template beside it (chat_generation.jinja, the model's own with
`{% generation %}` around a turn and its end token), the same for the last turn alone, and of both the mean negative
log-likelihood of the masked tokens under models/tiny-qwen2. `steps` are the losses of three steps of AdamW (clipped to norm 1) over
batches of conversations, `held_loss` is that of others behind them.
"""

import json
import pathlib

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = pathlib.Path(__file__).parent
MODEL = HERE / "models" / "tiny-qwen2"
TEMPLATE = (HERE / "chat_generation.jinja").read_text()


def chat(*turns):
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[role], "content": content} for role, content in turns]


CHATS = [
    chat(("u", "What is 2 + 3?"), ("a", "5")),
    chat(("s", "Be brief."), ("u", "Hello"), ("a", "Hi there."), ("u", "And 7 * 6?"), ("a", "That is 42.")),
    chat(
        ("u", "Name a colour."), ("a", "Blue"), ("u", "Another one, with an umlaut: ü"), ("a", "Grün\n\nor green"),
        ("u", "One more"), ("a", "<red>"), ("u", "Thanks, that is all"),
    ),
    chat(("a", "I begin."), ("u", "Why?"), ("a", "  Because I can.  ")),
    chat(("u", "two"), ("a", "turns"), ("a", "in a row")),
]

tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float64, attn_implementation="eager").eval()


def encoded(messages):
    found = tokenizer.apply_chat_template(
        messages, chat_template=TEMPLATE, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, mask = list(found["input_ids"]), list(found["assistant_masks"])
    # The same text by the model's own template.
    assert ids == list(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"])
    return ids, mask


def last_only(mask, messages):
    """The mask of the last turn: of the last run of ones, where turns are parted by what stands between them."""
    kept, end = [0] * len(mask), len(mask)
    while not mask[end - 1]:
        end -= 1
    start = end
    while start and mask[start - 1]:
        start -= 1
    kept[start:end] = mask[start:end]
    return kept


def nll(ids, mask):
    """Sum of the negative log-likelihood of the masked tokens, and how many."""
    logits = model(input_ids=torch.tensor([ids])).logits[0]
    assert logits.dtype == torch.float64
    logps = logits.log_softmax(-1)[:-1].gather(-1, torch.tensor(ids)[1:, None])[:, 0]
    chosen = torch.tensor(mask[1:], dtype=torch.bool)
    return -logps[chosen].sum(), int(chosen.sum())


def mean(pairs):
    sums, counts = zip(*pairs)
    return sum(sums) / sum(counts)


rows, parsed = [], []
for messages in CHATS:
    ids, mask = encoded(messages)
    last = last_only(mask, messages)
    parsed.append((ids, mask, last))
    with torch.no_grad():
        rows.append({
            "messages": messages, "ids": ids, "assistant": mask, "last": last,
            "assistant_loss": mean([nll(ids, mask)]).item(), "last_loss": mean([nll(ids, last)]).item(),
        })

LR, BATCHES, HELD = 1e-3, [[0, 1], [2, 3], [4, 0]], [1, 2]
optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
steps = []
for batch in BATCHES:
    optimizer.zero_grad()
    loss = mean([nll(parsed[i][0], parsed[i][1]) for i in batch])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    steps.append(loss.item())
with torch.no_grad():
    held = mean([nll(parsed[i][0], parsed[i][1]) for i in HELD]).item()

out = {"chats": rows, "lr": LR, "batches": BATCHES, "steps": steps, "held": HELD, "held_loss": held}
(HERE / "sft.json").write_text(json.dumps(out, ensure_ascii=False) + "\n")
print({r["assistant_loss"] for r in rows}, steps, held)
