"""Checks a second of Math-Verify on the rows of the corpus: pip install 'math-verify[antlr4_13_2]'.

    python3 rewards/benches/peer_math_verify.py [ROWS]

Prints checks a second of processor time and the slowest check; `cargo bench --bench math` does the same
rows with ours. Speed only: the corpus is ours, so agreement on it says nothing about either.
"""

import json
import pathlib
import sys
import time

from math_verify import parse, verify

CORPUS = pathlib.Path(__file__).parent.parent / "tests" / "corpus" / "math.jsonl"


def main() -> None:
    rows = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else len(rows)
    for name, wanted in [("correct rows", True), ("other rows", False)]:
        some = [r for r in rows if (r["verdict"] == "correct") == wanted and isinstance(r["gold"], (str, int))]
        some = some[:: max(1, len(some) // limit)]
        worst, start = 0.0, time.process_time()
        for row in some:
            before = time.process_time()
            try:
                gold = parse(f"\\boxed{{{row['gold']}}}")
                verify(gold, parse(row["completion"]))
            except Exception as error:  # a grader that raises has spent its time as well
                print(type(error).__name__, row["completion"][:40].encode("ascii", "replace"), file=sys.stderr)
            worst = max(worst, time.process_time() - before)
        spent = time.process_time() - start
        print(f"{name}: {len(some) / spent:.1f} checks/s, slowest {worst * 1e3:.1f} ms ({len(some)} rows)")


if __name__ == "__main__":
    main()
