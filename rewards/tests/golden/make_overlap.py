"""Golden values of ROUGE, BLEU and token F1: writes overlap.json beside this file.

pip install rouge_score==0.1.2 sacrebleu==2.6.0; python3 make_overlap.py
Token F1 has no package: it is computed here as arXiv:1606.05250 section 6.1 describes it.
"""
import collections, json, pathlib, random, re, string

import sacrebleu
from rouge_score import rouge_scorer

PAIRS = [
    ("the cat sat on the mat", "the cat sat on the mat"),
    ("the cat sat on the mat", "a cat was sitting on the mat"),
    ("The quick brown fox jumps over the lazy dog.", "A quick brown dog jumps over the lazy fox."),
    ("hello", "hello"),
    ("hello", "goodbye"),
    ("hello world", "hello"),
    ("a b", "a b c d"),
    ("It costs $3.50, or 4-5 dollars (roughly).", "It costs $3.50 or about 4-5 dollars."),
    ("The patient, a 65-year-old man, has aortic stenosis.", "A 65-year-old man with aortic stenosis."),
    ("d c b a", "a b c d"),
    ("the the the the", "the cat"),
    ("one two three four five six seven", "one two four five seven eight"),
    ("AT&amp;T said &quot;yes&quot;.", 'AT&T said "yes".'),
    ("He said: \"Don't go!\"", "He said, don't go."),
]
WORDS = "the a patient has had fever cough and pain in chest for three days with no rash or weight loss".split()


def more(count):
    rng = random.Random(1)
    for _ in range(count):
        said = [rng.choice(WORDS) for _ in range(rng.randint(1, 18))]
        wanted = [w if rng.random() < 0.7 else rng.choice(WORDS) for w in said]
        if rng.random() < 0.5:
            wanted = wanted[: rng.randint(1, len(wanted))]
        yield " ".join(said) + ".", " ".join(wanted) + rng.choice([".", "", "!"])


def token_f1(said, wanted):
    def words(s):
        s = "".join(c for c in s.lower() if c not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", s).split()

    a, b = words(said), words(wanted)
    same = sum((collections.Counter(a) & collections.Counter(b)).values())
    return 0.0 if same == 0 else 2 * same / (len(a) + len(b))


pairs = PAIRS + list(more(40))
scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
rows = []
for said, wanted in pairs:
    rouge = scorer.score(wanted, said)
    rows.append({
        "said": said,
        "wanted": wanted,
        "rouge": [rouge[k].fmeasure for k in ("rouge1", "rouge2", "rougeL")],
        "bleu": sacrebleu.sentence_bleu(said, [wanted], use_effective_order=True).score / 100,
        "token_f1": token_f1(said, wanted),
    })
corpus = sacrebleu.corpus_bleu([s for s, _ in pairs], [[w for _, w in pairs]]).score / 100
how = "rouge_score 0.1.2, sacrebleu 2.6.0 (13a, exp smoothing, effective order for sentences); make_overlap.py"
out = {"how": how, "corpus_bleu": corpus, "rows": rows}
pathlib.Path(__file__).with_name("overlap.json").write_text(json.dumps(out, indent=0) + "\n")
