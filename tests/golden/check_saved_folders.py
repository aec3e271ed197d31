#!/usr/bin/env python3
"""Loads with transformers what the test `folders_for_transformers` of policies/src/save.rs saved:

    RLVR_SAVE_TO=DIR cargo test --release -p rlvr-policies folders_for_transformers
    python3 tests/golden/check_saved_folders.py DIR

Needs: pip install transformers torch
"""
import json, pathlib, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

here, saved = pathlib.Path(__file__).parent, pathlib.Path(sys.argv[1])
tokens = torch.arange(4, 36)[None]
for folder in sorted(p for p in saved.iterdir() if p.is_dir()):
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), (folder.name, info)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = folder.name.removesuffix("-gguf")
    if folder.name == "characters":
        for text in ["1 + 2\n=  3", "<a>\n\n</a>", " ", "<eos>0<pad>"]:
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.decode(ids) == text, (text, ids)
        assert tokenizer("1<eos>")["input_ids"] == [4, 1] and tokenizer.eos_token_id == 1, tokenizer.eos_token_id
        try:
            raise SystemExit(f"an unknown character got {tokenizer('z')['input_ids']}")
        except Exception as e:
            assert "unk" in str(e).lower(), e
    else:
        original = here / "models" / base
        golden = json.loads((here / f"{base}.json").read_text())
        for case in golden["encode"]:
            assert tokenizer(case["text"])["input_ids"] == case["ids"], case
            assert tokenizer(case["text"], add_special_tokens=False)["input_ids"] == case["ids_no_special"], case
        chat = tokenizer.apply_chat_template(golden["chat"]["messages"], tokenize=False, add_generation_prompt=True)
        assert chat == golden["chat"]["text"]
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 2, 3)
        if folder.name == base:
            reference = AutoModelForCausalLM.from_pretrained(original)
            a, b = model.state_dict(), reference.state_dict()
            assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
            assert torch.equal(model(tokens).logits, reference(tokens).logits)
            assert model.dtype == torch.float32
        else:
            assert model.dtype == torch.bfloat16 and model.config.num_hidden_layers == 1
    out = model.generate(torch.tensor([[4, 5, 6]]), max_new_tokens=4, do_sample=False)
    print(f"{folder.name}: ok ({model.config.model_type}, {model.dtype}, {out.shape[1]} tokens)")
