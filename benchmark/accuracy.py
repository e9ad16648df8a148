# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What attention loses by the format of its cache, in float64 with exact rounding.

    build/venv/bin/python benchmark/accuracy.py             measure, and store
    build/venv/bin/python benchmark/accuracy.py --tables    print those of the page

The results are in benchmark/results/accuracy.json, one for each seed.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmark" / "results" / "accuracy.json"

NOTE = (
    "relative: the error of the output of a row and head, divided by the output, "
    "root of the mean square over all; worst: the largest of one row and head; "
    "typical, bound: as 'relative', by the formulas of the page; of keys, of "
    "values: only that side is stored in the format; score: the error of scale * "
    "q.k, as measured, typical and at most. against: what the rows are before they "
    "are stored, and what the reference reads")
CONTEXTS, SEEDS, ROWS, HEADS, CHANNELS = [512, 4096], [1, 2, 3], 4, 8, 128


def root_mean_square(x):
    import numpy as np
    return float(np.sqrt(np.mean(np.square(x))))


def rounded(x):
    return float(f"{x:.4g}")


def measure(seed, kind, context, against):
    """A result for each format."""
    import numpy as np
    import ref_accuracy as ref

    rng = np.random.default_rng(seed)
    query, keys, values = ref.rows(rng, kind, ROWS, context, HEADS, CHANNELS)
    if against != "exact":
        keys, values = (ref.store(x, ref.FORMATS[against]) for x in (keys, values))
    exact = ref.attention(query, keys, values)
    size = np.linalg.norm(exact, axis=-1)
    score = ref.scores(query, keys)

    def share(x):
        return np.linalg.norm(x, axis=-1) / size

    for name, one in ref.FORMATS.items():
        stored = [ref.store(x, one) for x in (keys, values)]
        error = share(ref.attention(query, *stored) - exact)
        result = {"format": name, "keys": kind, "context": context, "seed": seed,
                  "against": against, "relative": root_mean_square(error),
                  "worst": float(error.max())}
        if against == "exact":
            of_keys = ref.attention(query, stored[0], values) - exact
            of_values = ref.attention(query, keys, stored[1]) - exact
            score_error = ref.scores(query, stored[0] - keys)
            score_bound = ref.score_bound(query, keys, one)
            value_bound = ref.element_bound(values, one)
            bound = [ref.output_bound(s, e, values, value_bound)
                     for s, e in zip(score, score_bound)]
            score_typical = ref.score_typical(query, keys, one)
            value_typical = ref.element_typical(values, one)
            typical = [ref.output_typical(s, e, values, value_typical)
                       for s, e in zip(score, score_typical)]
            result |= {
                "of keys": root_mean_square(share(of_keys)),
                "of values": root_mean_square(share(of_values)),
                "typical": root_mean_square(share(np.array(typical))),
                "bound": root_mean_square(share(np.array(bound))),
                "score": root_mean_square(score_error),
                "score typical": root_mean_square(score_typical),
                "score worst": float(np.abs(score_error).max()),
                "score bound": float(score_bound.max())}
        yield {key: rounded(x) if isinstance(x, float) else x
               for key, x in result.items()}


def run(options):
    sys.path.insert(0, str(ROOT / "test" / "numerics"))
    import ref_accuracy as ref

    results = []
    for context in options.contexts:
        for kind in options.keys:
            for seed in options.seeds:
                for against in "exact", "bf16":
                    results += measure(seed, kind, context, against)
                print(f"context {context}, keys {kind}, seed {seed}",
                      file=sys.stderr)
    parameters = {
        "contexts": options.contexts, "seeds": options.seeds, "rows": ROWS,
        "heads": HEADS, "channels": CHANNELS, "outlier channels": ref.OUTLIERS,
        "outlier factors": ref.OUTLIER_FACTORS, "bias": ref.BIAS,
        "bits per element": {name: one.bits_per_element
                             for name, one in ref.FORMATS.items()}}
    lines = ",\n".join("  " + json.dumps(result) for result in results)
    options.out.write_text(
        f'{{\n "note": {json.dumps(NOTE)},\n "parameters": '
        f'{json.dumps(parameters)},\n "results": [\n{lines}\n ]\n}}\n')


# --- Tables -------------------------------------------------------------------


class Stored:
    """The results, over all seeds."""

    def __init__(self, path=RESULTS):
        stored = json.loads(path.read_text())
        self.parameters, self._results = stored["parameters"], stored["results"]

    def values(self, key, **which):
        found = [r[key] for r in self._results
                 if all(r[name] == x for name, x in which.items())]
        assert len(found) == len(self.parameters["seeds"]), which
        return found

    def mean(self, key, **which):
        found = self.values(key, **which)
        return (sum(x * x for x in found) / len(found)) ** 0.5

    def largest(self, key, **which):
        return max(self.values(key, **which))


def number(x):
    """Two digits, without an exponent if there is space."""
    return "0" if x == 0 else f"{x:.1e}" if x < 1e-4 else f"{float(f'{x:.2g}'):g}"


def percent(x):
    return number(100 * x)


KEYS = ["normal", "outliers", "biased", "balanced"]


def outputs(stored, against, formats):
    """Relative errors in percent; in brackets that of the worst row and head."""
    contexts = stored.parameters["contexts"]
    columns = [(kind, context) for kind in KEYS for context in contexts]
    yield ["format", *(f"{kind}, {context}" for kind, context in columns)]
    for name in formats:
        cells = []
        for kind, context in columns:
            which = dict(format=name, keys=kind, context=context, against=against)
            mean = percent(stored.mean("relative", **which))
            worst = percent(stored.largest("worst", **which))
            cells.append(mean if mean == worst else f"{mean} ({worst})")
        yield [name, *cells]


def sides(stored, context):
    yield ["format", *(f"{kind}: of {side}" for kind in KEYS
                       for side in ("keys", "values"))]
    for name in stored.parameters["bits per element"]:
        yield [name, *(percent(stored.mean(
            f"of {side}", format=name, keys=kind, context=context,
            against="exact")) for kind in KEYS for side in ("keys", "values"))]


def predicted(stored, context, keys, show):
    """Three results for each kind of keys: measured, typical, and a bound."""
    names = "measured", "typical", "bound"
    pick = {"score bound": stored.largest}
    yield ["format", *(f"{kind}: {what}" for kind in KEYS for what in names)]
    for name in stored.parameters["bits per element"]:
        yield [name, *(show(pick.get(key, stored.mean)(
            key, format=name, keys=kind, context=context, against="exact"))
            for kind in KEYS for key in keys)]


def tables(stored):
    """The tables of docs/accuracy.md, in their sequence."""
    names = list(stored.parameters["bits per element"])
    longest = max(stored.parameters["contexts"])
    return [predicted(stored, longest, ("score", "score typical", "score bound"),
                      number),
            predicted(stored, longest, ("relative", "typical", "bound"), percent),
            outputs(stored, "exact", names),
            outputs(stored, "bf16", [n for n in names if n not in ("f32", "bf16")]),
            sides(stored, longest)]


def markdown(table):
    rows = [f"| {' | '.join(row)} |" for row in table]
    return [rows[0], "|" + "---|" * (rows[0].count("|") - 1), *rows[1:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--contexts", type=int, nargs="*", default=CONTEXTS)
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--keys", nargs="*", choices=KEYS, default=KEYS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.tables:
        print("\n\n".join("\n".join(markdown(table))
                          for table in tables(Stored(options.out))))
    else:
        run(options)


if __name__ == "__main__":
    main()
