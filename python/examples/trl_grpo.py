"""GRPO in TRL, judged by rlvr: three steps on a tiny random model, or on the model that is named.

    pip install rlvr trl
    python trl_grpo.py [MODEL]
"""
import sys

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from rlvr import rewards


def tiny():
    """A Llama with random weights over single characters, which needs no download."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {c: i for i, c in enumerate(["<pad>", "<eos>", *map(chr, range(32, 127))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=" "))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(vocabulary), pad_token_id=0, bos_token_id=1, eos_token_id=1, **size)
    return LlamaForCausalLM(config), tokenizer


sums = [(a, b) for a in range(2, 6) for b in range(2, 6)]
data = Dataset.from_dict(
    {"prompt": [f"What is {a} + {b}? " for a, b in sums], "answer": [str(a + b) for a, b in sums]}
)
model, tokenizer = (sys.argv[1], None) if len(sys.argv) > 1 else tiny()
trainer = GRPOTrainer(
    model=model,
    processing_class=tokenizer,
    # Any reward of rlvr is a reward function: columns of the data arrive by their names.
    reward_funcs=[rewards.make("numeric", extract="lenient"), rewards.make("length", max=64, soft=32)],
    train_dataset=data,
    args=GRPOConfig(
        output_dir="trl_run",
        max_steps=3,
        num_generations=4,
        per_device_train_batch_size=8,
        max_completion_length=16,
        logging_steps=1,
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        report_to=[],
    ),
)
trainer.train()
for row in trainer.state.log_history:
    print({key: value for key, value in row.items() if key.startswith("reward")})
