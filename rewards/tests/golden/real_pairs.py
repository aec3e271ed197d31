"""Pairs of real texts for make_overlap.py: python3 real_pairs.py DATA_DIR [samples.jsonl …] > pairs.jsonl

From PubMedQA's rows with context and rationale and MedMCQA's with rationale (DATA_DIR/pubmedqa/pqal.jsonl,
DATA_DIR/medmcqa/dev.jsonl): the conclusion of an abstract against its last sentences, and explanations against
themselves with words dropped, doubled and exchanged. From samples of rlvr eval on PubMedQA: completions against the
rationale of the same question. Nothing of it belongs into the repository. Only ASCII texts: rlvr's words are letters and
digits of any script, those of rouge_score's tokenizer are ASCII.
"""
import json, pathlib, random, re, sys

data = pathlib.Path(sys.argv[1])
read = lambda path: [json.loads(line) for line in open(path, encoding="utf-8")]
rng = random.Random(1)
pubmed = read(data / "pubmedqa/pqal.jsonl")
pairs = []
for row in pubmed[:200]:
    sentences = re.split(r"(?<=[.!?])\s+", row["context"])
    pairs.append((" ".join(sentences[-rng.randint(1, 3):]), row["rationale"]))
for row in [r for r in read(data / "medmcqa/dev.jsonl") if r.get("rationale")][:200]:
    words = row["rationale"].split(" ")[:120]
    said = []
    for word in words:
        chance = rng.random()
        if chance < 0.1:
            continue
        said += [word, word] if chance < 0.13 else [rng.choice(words)] if chance < 0.25 else [word]
    pairs.append((" ".join(said), " ".join(words)))
by_id = {str(row["id"]): row["rationale"] for row in pubmed}
for path in sys.argv[2:]:
    for row in read(path):
        if str(row["id"]) in by_id and row["completion"].strip():
            pairs.append((row["completion"], by_id[str(row["id"])]))
for said, wanted in pairs:
    if said.strip() and wanted.strip() and (said + wanted).isascii():
        print(json.dumps({"said": said, "wanted": [wanted]}))
