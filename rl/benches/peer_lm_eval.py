"""The same items with the same prompts through lm-evaluation-harness and `rlvr eval run`: time, accuracy, item by item.

usage: python rl/benches/peer_lm_eval.py MODEL ROWS.jsonl N label|text|generate|start [RLVR] [BATCH]
       (needs `pip install lm-eval torch transformers`; rows {"id", "question", "options": four texts, "answer": letter})

label and text rank the options by the likelihood of their letters or texts; generate writes 16 tokens greedily; start
is label with one item, which is what starting costs.
"""
import glob, json, os, resource, subprocess, sys, tempfile, time

model, rows_path, n, kind = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
rlvr = sys.argv[5] if len(sys.argv) > 5 else "target/release/rlvr"
batch = sys.argv[6] if len(sys.argv) > 6 else "16"
if kind == "start":
    n, kind = 1, "label"
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="true")
work = tempfile.mkdtemp()
rows = [json.loads(line) for line in open(rows_path)][:n]
with open(f"{work}/items.jsonl", "w") as f:
    for r in rows:
        f.write(json.dumps({k: r[k] for k in ("id", "question", "options", "answer")}) + "\n")

OURS = '''name = "items"
title = "items"
license = "any"
prompt = """
Question: {{ question }}
{{ lettered }}
Answer:"""
[source]
file = "items.jsonl"
[fields]
question = "{{ question }}"
options = "{{ options }}"
answer = "{{ answer }}"
[reward]
kind = "choice"
[generation]
max_tokens = 16
[likelihood]
prompt = """
Question: {{ question }}
{{ lettered }}
Answer:"""
'''
CHOICES = {"label": "['A','B','C','D']", "text": "\"{{options|map('trim')|list}}\""}
lettered = "\\n".join(f"{l}. {{{{options[{i}]|trim}}}}" for i, l in enumerate("ABCD"))
THEIRS = f'''task: items
dataset_path: json
dataset_kwargs:
  data_files:
    test: {work}/items.jsonl
test_split: test
output_type: {"generate_until" if kind == "generate" else "multiple_choice"}
doc_to_text: "Question: {{{{question}}}}\\n{lettered}\\nAnswer:"
'''
if kind == "generate":
    THEIRS += '''doc_to_target: "{{answer}}"
generation_kwargs: {until: [], max_gen_toks: 16, do_sample: false}
metric_list:
  - metric: exact_match
'''
else:
    THEIRS += f'''doc_to_choice: {CHOICES[kind]}
doc_to_target: "{{{{['A','B','C','D'].index(answer)}}}}"
metric_list:
  - metric: acc
  - metric: acc_norm
'''
open(f"{work}/ours.toml", "w").write(OURS)
open(f"{work}/theirs.yaml", "w").write(THEIRS)


def timed(name, command):
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    with open(f"{work}/{name}.log", "w") as log:
        code = subprocess.call(command, stdout=log, stderr=subprocess.STDOUT)
    wall, after = time.time() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name}: {n} items in {wall:.1f} s ({n / wall:.2f}/s), processor time {cpu:.1f} s", flush=True)
    if code:
        print(open(f"{work}/{name}.log").read()[-2000:])
        sys.exit(1)


print(f"{kind}, {n} items, batch {batch}, load {os.getloadavg()[0]:.1f}", flush=True)
timed("lm-eval", [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32",
                  "--tasks", "items", "--include_path", work, "--device", "cpu", "--batch_size", batch,
                  "--output_path", f"{work}/theirs", "--log_samples"])
how = ["generate"] if kind == "generate" else ["likelihood", "--likelihood-of", kind]
timed("rlvr", [rlvr, "eval", "run", "--policy", model, "--tasks", f"{work}/ours.toml", "--raw", "--out",
               f"{work}/ours", "--mode", *how])

theirs = [json.loads(line) for line in open(glob.glob(f"{work}/theirs/**/samples_*.jsonl", recursive=True)[0])]
ours = [json.loads(line) for line in open(f"{work}/ours/samples.jsonl")]
if kind == "generate":
    text = {r["id"]: r["completion"] for r in ours}
    same = sum(t["resps"][0][0] == text[t["doc"]["id"]] for t in theirs)
    with open(f"{work}/theirs.jsonl", "w") as f:
        for t in theirs:
            f.write(json.dumps({"id": t["doc"]["id"], "completion": t["resps"][0][0]}) + "\n")
    subprocess.call([rlvr, "eval", "score", "--tasks", f"{work}/ours.toml", "--completions", f"{work}/theirs.jsonl",
                     "--out", f"{work}/judged"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    accuracy = lambda out: json.load(open(f"{work}/{out}/results.json"))["tasks"]["items"]["accuracy"]
    print(f"completions equal {same} of {n}; accuracy lm-eval {accuracy('judged'):.4f}, rlvr {accuracy('ours'):.4f}")
else:
    for metric, ending in (("acc", "/likelihood"), ("acc_norm", "/likelihood_norm")):
        right = {r["id"]: r["verdict"] == "correct" for r in ours if r["task"].endswith(ending)}
        apart = sum(bool(t[metric]) != right[t["doc"]["id"]] for t in theirs)
        mean = sum(t[metric] for t in theirs) / n
        print(f"{metric}: lm-eval {mean:.4f}, rlvr {sum(right.values()) / n:.4f}, items that differ {apart}")
    options = {r["id"]: r["options"] for r in ours if "options" in r}
    gap = max(abs(float(t["filtered_resps"][i][0]) - o["logprob"])
              for t in theirs for i, o in enumerate(options[t["doc"]["id"]]))
    print(f"largest difference of a log-likelihood {gap:.1e} nats")
