"""Golden values of BLEU, ROUGE, token F1, METEOR and CIDEr-D: writes overlap.json beside this file.

pip install rouge_score==0.1.2 sacrebleu==2.6.0 nltk==3.10.4 pycocoevalcap==1.2; python3 make_overlap.py
python3 make_overlap.py pairs.jsonl values.json   for other pairs {"said", "wanted": [texts]}; then
RLVR_OVERLAP=values.json cargo test --release -p rlvr-rewards --test text given_pairs -- --ignored --nocapture

Token F1 has no package: it is computed here as arXiv:1606.05250 section 6.1 describes it. METEOR is NLTK's with Snowball's
English stemmer and an empty WordNet. METEOR and CIDEr get the words of rouge_score's tokenizer; what CIDEr would be with
the Stanford tokenizer of pycocoevalcap (needs Java) is printed for other pairs.
"""
import collections, json, pathlib, random, re, string, sys

import sacrebleu
from nltk.stem.snowball import SnowballStemmer
from nltk.translate.meteor_score import meteor_score
from pycocoevalcap.cider.cider import Cider
from rouge_score import rouge_scorer, tokenizers

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
    ("The valves are thickened and calcified.", "Thickening and calcification of the valve."),
    ("Patients improved, running and walking daily.", "The patient was improving and walks daily."),
    ("Fever, coughing and chest pains lasted three days.", "There was fever with a cough and chest pain for three days."),
    ("no fracture is seen in the left wrist", ["No fracture of the left wrist.", "The left wrist shows no fractures."]),
    ("small effusion on the right side", ["There is a small right effusion.", "A small effusion, right sided."]),
    ("the heart is enlarged", ["Cardiomegaly.", "The heart is enlarged.", "An enlarged heart is seen."]),
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


class NoWordNet:
    def synsets(self, word):
        return []


def cider(pairs, words):
    said = {i: [words(s)] for i, (s, _) in enumerate(pairs)}
    wanted = {i: [words(w) for w in ws] for i, (_, ws) in enumerate(pairs)}
    mean, each = Cider().compute_score(wanted, said)
    return float(mean), [float(x) for x in each]


def stanford(pairs):
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    said = {i: [{"caption": s}] for i, (s, _) in enumerate(pairs)}
    wanted = {i: [{"caption": w} for w in ws] for i, (_, ws) in enumerate(pairs)}
    mean, _ = Cider().compute_score(PTBTokenizer().tokenize(wanted), PTBTokenizer().tokenize(said))
    return float(mean)


if len(sys.argv) > 1:
    rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
    pairs, target = [(row["said"], row["wanted"]) for row in rows], pathlib.Path(sys.argv[2])
else:
    pairs, target = PAIRS + list(more(40)), pathlib.Path(__file__).with_name("overlap.json")
pairs = [(said, [wanted] if isinstance(wanted, str) else wanted) for said, wanted in pairs]

scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
tokenizer = tokenizers.DefaultTokenizer(use_stemmer=False)
stemmer = SnowballStemmer("english")
total, cider_each = cider(pairs, lambda s: " ".join(tokenizer.tokenize(s)))
rows = []
for (said, wanted), of_cider in zip(pairs, cider_each):
    scores = [scorer.score(w, said) for w in wanted]
    rows.append({
        "said": said,
        "wanted": wanted,
        "rouge": [max(s[k].fmeasure for s in scores) for k in ("rouge1", "rouge2", "rougeL")],
        "bleu": sacrebleu.sentence_bleu(said, wanted, use_effective_order=True).score / 100,
        "token_f1": max(token_f1(said, w) for w in wanted),
        "meteor": meteor_score(
            [tokenizer.tokenize(w) for w in wanted], tokenizer.tokenize(said), stemmer=stemmer, wordnet=NoWordNet()
        ),
        "cider": of_cider,
    })
most = max(len(wanted) for _, wanted in pairs)
streams = [[wanted[i] if i < len(wanted) else None for _, wanted in pairs] for i in range(most)]
bleu = [
    sacrebleu.metrics.BLEU(max_ngram_order=n).corpus_score([s for s, _ in pairs], streams).score / 100 for n in (1, 2, 3, 4)
]
how = (
    "rouge_score 0.1.2, sacrebleu 2.6.0 (13a, exp smoothing, effective order for sentences), nltk 3.10.4, "
    "pycocoevalcap 1.2; make_overlap.py"
)
out = {"how": how, "corpus_bleu": bleu, "corpus_cider": total, "rows": rows}
target.write_text(json.dumps(out, indent=0) + "\n")
if len(sys.argv) > 1:
    print(len(pairs), "pairs; CIDEr-D", total, "with the Stanford tokenizer", stanford(pairs))
