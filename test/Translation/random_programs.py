# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Random programs over random layouts, with the calls that run them.

    random_programs.py COUNT SEED > programs.mlir

Each program has one pool, sometimes behind a layer or a vaguer type, a few
operations on it, and calls with strides of every kind that its type allows. The
same seed gives the same programs.
"""

import random
import sys

ELEMENTS = ["f32", "f16", "bf16", "f8E4M3FN", "f8E5M2"]
ATTENTION_OPTIONS = ["causal", "causal window 5", "", "window_right 3",
                     "batch_invariant causal"]
ID = "affine_map<(t) -> (t)>"


class Layout:
    """A layout with facts, and the strides of a call that fulfil them."""

    def __init__(self, rng, layers=False, sides=None, run_time=0.5):
        self.rng = rng
        self.axes = []
        if layers:
            self.axes.append(["L", rng.choice([1, 2, 3])])
        sides = rng.random() < 0.6 if sides is None else sides
        if sides:
            self.axes.append(["S", 2])
        self.axes.append(["B", None])
        self.axes.append(["N", rng.choice([1, 2, 4, 8, 16])])
        if rng.random() < 0.8:
            self.axes.append(["H", rng.choice([1, 2, 3, 4])])
        self.axes.append(["D", rng.choice([4, 7, 8, 16, 32])])
        names = [name for name, _ in self.axes]
        # Channels are mostly fastest, and tokens and heads fast.
        self.order = names[:]
        kind = rng.random()
        if kind < 0.25:
            rng.shuffle(self.order)
        elif kind < 0.75:
            slow = [n for n in names if n in "LSB"]
            fast = [n for n in names if n in "NH"]
            rng.shuffle(slow)
            rng.shuffle(fast)
            self.order = slow + fast + ["D"]
        self.extent = dict(self.axes)
        self.facts = {}
        known = 1  # what the faster axes span, None if the call decides
        for position, name in enumerate(reversed(self.order)):
            extent = self.extent[name]
            roll = rng.random()
            likely = run_time if name == "B" else run_time / 6
            if extent != 1 and roll < likely:
                self.facts[name] = ("?", rng.choice([1, 1, 2, 16]))
                known = None
            elif extent != 1 and roll < likely * 1.6 and known is not None:
                value = known * rng.choice([1, 2, 3]) + rng.choice([0, 0, 16, 1])
                self.facts[name] = ("=", value)
                known = value
            if known is not None:
                known = known * extent if extent else None

    def shape(self, blocks):
        return [extent or blocks for _, extent in self.axes]

    def strides(self, blocks, how):
        """Of one call: `how` is compact, multiple or any."""
        result, span = {}, 1
        for name in reversed(self.order):
            extent = self.extent[name] or blocks
            kind, value = self.facts.get(name, ("compact", 0))
            stride = span
            if kind == "=":
                stride = value
            elif kind == "?":
                if how == "multiple":
                    value = max(value, 16)
                    stride += self.rng.choice([0, 16])
                elif how == "any":
                    stride += self.rng.choice([0, 1, 3, 6])
                if how != "compact" or stride % value:
                    stride = -(-stride // value) * value
            result[name] = stride
            span = stride * extent
        return [result[name] for name, _ in self.axes]

    def type(self, element, axes=None, facts=None):
        axes = axes or self.axes
        facts = self.facts if facts is None else facts
        names = [name for name, _ in axes]
        text = " x ".join(f"{extent or '?'}{name}" for name, extent in axes)
        order = ", ".join(n for n in self.order if n in names)
        text = f"!kvcache.cache<{text} x {element}, order = [{order}]"
        said = []
        for name in names:
            if name not in facts:
                continue
            kind, value = facts[name]
            if kind == "=":
                said.append(f"{name} = {value}")
            else:
                said.append(f"{name} = ?" + (f" mult {value}" if value > 1 else ""))
        if said:
            text += f", strides = [{', '.join(said)}]"
        return text + ", align = 4>"

    def vague(self):
        """Facts that say less: what any path may have."""
        return {n: ("?", 1) for n, e in self.axes if e != 1}


def program(rng):
    element = rng.choice(ELEMENTS)
    layout = Layout(rng)
    tokens, channels = layout.extent["N"], layout.extent["D"]
    heads = layout.extent.get("H")
    sides = 2 if "S" in layout.extent else 1
    row = (f"{heads}x" if heads else "") + f"{channels}x{element}"
    rows = f"memref<?x{row}>"
    pool = layout.type(element)
    vague = layout.type(element, facts=layout.vague())
    slots = (f"!kvcache.slots<?T x i64, rows_per_block = {tokens}, "
             f"pad = {rng.choice(['skip_negative', 'skip_out_of_range', 'none'])}>")
    arguments = [f"%pool: {pool}", "%slots: memref<?xi64>"]
    arguments += [f"%rows{i}: {rows}" for i in range(sides)]
    arguments += [f"%out{i}: {rows}" for i in range(sides)]
    body, extra = [], {}
    all_rows = ", ".join(f"%rows{i}" for i in range(sides))
    all_outs = ", ".join(f"%out{i}" for i in range(sides))
    row_types = ", ".join([rows] * sides)

    def say(text):
        body.append("  " + text)

    cache, kind = "%pool", pool
    roll = rng.random()
    if roll < 0.25:
        say(f"%vague = kvcache.cast %pool : {pool} to {vague}")
        cache, kind = "%vague", vague
    elif roll < 0.4:
        say(f"%vague = kvcache.cast %pool : {pool} to {vague}")
        say("%i0 = arith.constant 0 : index")
        say("%i1 = arith.constant 1 : index")
        say("%i2 = arith.constant 2 : index")
        say(f"%turned = scf.for %i = %i0 to %i2 step %i1 iter_args(%c = %vague)"
            f" -> ({vague}) {{")
        say(f"  scf.yield %c : {vague}")
        say("}")
        cache, kind = "%turned", vague
    say(f"%where = kvcache.make_slots %slots : memref<?xi64> to {slots}")

    def divided():
        """Blocks and offsets that a loop divides out of the slots."""
        n = len(body)
        power = tokens & (tokens - 1) == 0 and tokens > 1
        quotients = ["divsi", "floordivsi"] + (["shrsi"] if power else [])
        remainders = ["remsi", "sub"]
        quotient = rng.choice(quotients)
        if power and quotient != "divsi":
            remainders.append("andi")
        remainder = rng.choice(remainders)
        say(f"%z{n} = arith.constant 0 : index")
        say(f"%by{n} = arith.constant {tokens} : i64")
        say(f"%bits{n} = arith.constant {tokens.bit_length() - 1} : i64")
        say(f"%mask{n} = arith.constant {tokens - 1} : i64")
        say(f"%count{n} = memref.dim %slots, %z{n} : memref<?xi64>")
        say(f"%blocks{n} = memref.alloc(%count{n}) : memref<?xi64>")
        say(f"%offsets{n} = memref.alloc(%count{n}) : memref<?xi64>")
        say(f"linalg.generic {{indexing_maps = [{ID}, {ID}, {ID}], "
            'iterator_types = ["parallel"]}')
        say("    ins(%slots : memref<?xi64>) "
            f"outs(%blocks{n}, %offsets{n} : memref<?xi64>, memref<?xi64>) {{")
        say("^bb0(%s: i64, %b: i64, %o: i64):")
        operand = f"%bits{n}" if quotient == "shrsi" else f"%by{n}"
        say(f"  %q = arith.{quotient} %s, {operand} : i64")
        if remainder == "sub":
            say(f"  %p = arith.muli %q, %by{n} : i64")
            say("  %r = arith.subi %s, %p : i64")
        else:
            operand = f"%mask{n}" if remainder == "andi" else f"%by{n}"
            say(f"  %r = arith.{remainder} %s, {operand} : i64")
        say("  linalg.yield %q, %r : i64, i64")
        say("}")
        return f"%blocks{n}", f"%offsets{n}"

    def scatter():
        pad = rng.choice(["skip_negative", "skip_out_of_range", "none"])
        if rng.random() < 0.5:
            blocks, offsets = divided()
        else:
            blocks, offsets = "%blocks", "%offsets"
            extra["blocks"] = "blocks"
            extra["offsets"] = "offsets"
        say(f"kvcache.scatter {all_rows} into {cache} at {blocks}, {offsets} "
            f"pad = {pad} : {row_types} into {kind} at memref<?xi64>, "
            "memref<?xi64>")

    def index_copy():
        say(f"kvcache.index_copy {all_rows} into {cache} at %where : "
            f"{row_types} into {kind} at {slots}")

    def rotated_copy():
        """Rows that are normalized and rotated on the way, or some of them."""
        n = len(body)
        turned = 2 * rng.randint(0, channels // 2)
        angles = f"memref<?x{turned}xf32>"
        if turned:
            extra[f"angles{n}"], extra["positions"] = angles, "positions"
        say(f"%z{n} = arith.constant 0 : index")
        say(f"%count{n} = memref.dim %rows0, %z{n} : {rows}")
        fused = rng.random() < 0.5
        if fused:
            say("kvcache.fuse {")
        written = []
        for i in range(sides):
            source = f"%rows{i}"
            if rng.random() < 0.5:
                say(f"%normal{n}_{i} = memref.alloc(%count{n}) : {rows}")
                say(f"kvcache.normalize {source} into %normal{n}_{i} epsilon "
                    f"1.0e-05 : {rows} into {rows}")
                source = f"%normal{n}_{i}"
            if turned and (i == 0 or rng.random() < 0.3):
                say(f"%turned{n}_{i} = memref.alloc(%count{n}) : {rows}")
                say(f"kvcache.rotate {source} by %angles{n} at %positions into "
                    f"%turned{n}_{i} : {rows} by {angles} at memref<?xi32> into "
                    f"{rows}")
                source = f"%turned{n}_{i}"
            written.append(source)
        say(f"kvcache.index_copy {', '.join(written)} into {cache} at %where : "
            f"{row_types} into {kind} at {slots}")
        if fused:
            say("}")

    def gather():
        say(f"kvcache.gather {cache} at %where "
            + rng.choice(["", "zero "])
            + f"into {all_outs} : {kind} at {slots} into {row_types}")

    def copy_blocks():
        extra["pairs"] = "pairs"
        say(f"kvcache.copy_blocks {cache} at %pairs : {kind} at memref<?x2xi64>")

    def clear_blocks():
        extra["blocks"] = "blocks"
        say(f"kvcache.clear_blocks {cache} at %blocks : {kind} at memref<?xi64>")

    def read_a_copy():
        """Gather from a copy in another order: the copy may fold."""
        n = len(body)
        names = [name for name, _ in layout.axes]
        order = names[:]
        rng.shuffle(order)
        shape = "x".join(str(layout.extent[name] or "?") for name in order)
        axes = ", ".join(order)
        copied = " x ".join(f"{e or '?'}{a}" for a, e in layout.axes)
        copied = f"!kvcache.cache<{copied} x {element}, order = [{axes}]>"
        say(f"%n{n} = kvcache.dim {cache}[B] : {kind}")
        say(f"%buffer{n} = memref.alloc(%n{n}) : memref<{shape}x{element}>")
        say(f"%copy{n} = kvcache.view %buffer{n}[{axes}] : "
            f"memref<{shape}x{element}> to {copied}")
        say(f"kvcache.relayout {cache} into %copy{n} : {kind} into {copied}")
        if rng.random() < 0.4:
            index_copy()
        say(f"kvcache.gather %copy{n} at %where zero into {all_outs} : "
            f"{copied} at {slots} into {row_types}")

    def attention():
        if sides != 2 or not heads:
            return gather()
        n = len(body)
        group = rng.choice([1, 2])
        # No query is of bytes.
        of_query = "bf16" if element.startswith("f8") else element
        query = f"memref<?x{heads * group}x{channels}x{of_query}>"
        table = f"!kvcache.block_table<?R x ?M x i32, tokens = {tokens}>"
        batch = f"!kvcache.batch<?R x ?M x i32, tokens = {tokens}>"
        extra[f"query{n}"] = query
        extra[f"result{n}"] = query
        extra["starts"] = extra["lengths"] = "batch"
        extra["table"] = "table"
        say(f"%t{n} = kvcache.make_block_table %table : memref<?x?xi32> to {table}")
        say(f"%b{n} = kvcache.make_batch %starts, %lengths, %t{n} : "
            f"memref<?xi32>, memref<?xi32>, {table}")
        mask = ""
        if rng.random() < 0.3:
            extra[f"mask{n}"] = "memref<?x?xi32>"
            mask = f"mask(%mask{n} : memref<?x?xi32>) "
        say(f"kvcache.attention %query{n} over {cache} in %b{n} {mask}into "
            f"%result{n} "
            f"{rng.choice(ATTENTION_OPTIONS)} "
            f": {query} over "
            f"{kind} in {batch} into {query}")

    # A pass of its own rewrites scatters.
    steps = [scatter, scatter, index_copy, gather, copy_blocks, clear_blocks,
             read_a_copy, rotated_copy]
    for _ in range(rng.randint(1, 3)):
        rng.choice(steps)()
    if rng.random() < 0.3:
        attention()

    types = {"positions": "memref<?xi32>", "blocks": "memref<?xi64>",
             "offsets": "memref<?xi64>", "pairs": "memref<?x2xi64>", "starts": "memref<?xi32>",
             "lengths": "memref<?xi32>", "table": "memref<?x?xi32>"}
    for name, what in extra.items():
        arguments.append(f"%{name}: {types.get(name, what)}")
    calls = []
    for how in ["compact", "multiple", "any"]:
        blocks, count = rng.randint(2, 5), rng.randint(1, 7)
        seed = rng.randint(0, 10**6)

        def numbers(values):
            return "[" + ",".join(str(value) for value in values) + "]"

        words = [
            f"pool=random,shape={numbers(layout.shape(blocks))},"
            f"strides={numbers(layout.strides(blocks, how))},seed={seed}",
            "slots=" + numbers(rng.randint(-2, blocks * tokens + 1)
                               for _ in range(count))]
        shape = [count] + ([heads] if heads else []) + [channels]
        for i in range(sides):
            words.append(f"rows{i}=random,shape={numbers(shape)},seed={seed + i}")
            words.append(f"out{i}=random,shape={numbers(shape)},seed={seed + 9}")
        for name, what in extra.items():
            if name == "blocks":
                values = numbers(rng.randint(-1, blocks) for _ in range(count))
            elif name == "positions":
                values = numbers(rng.randint(-1, 6) for _ in range(count))
            elif name.startswith("angles"):
                width = what[len("memref<?x"):].split("x")[0]
                values = f"random,shape=[6,{width}],seed={seed}"
            elif name == "offsets":
                values = numbers(rng.randint(-1, tokens) for _ in range(count))
            elif name == "pairs":
                pairs = rng.randint(1, 3)
                values = (f"random,shape=[{pairs},2],range=[-1,{blocks}],"
                          f"seed={seed}")
            elif name == "starts":
                values = f"[0,{count // 2},{count}]"
            elif name == "lengths":
                values = numbers(rng.randint(0, 2 * tokens) for _ in range(2))
            elif name == "table":
                values = f"random,shape=[2,2],range=[-1,{blocks}],seed={seed}"
            elif name.startswith("mask"):
                values = f"random,shape=[{count},1],range=[0,99],seed={seed}"
            else:
                inner = what[len("memref<?x"):].split("x")[:2]
                values = (f"random,shape=[{count},{inner[0]},{inner[1]}],"
                          f"seed={seed}")
            words.append(f"{name}={values}")
        calls.append("// call: " + " ".join(words))
    text = "\n".join(calls)
    text += f"\nfunc.func @program({', '.join(arguments)}) {{\n"
    return text + "\n".join(body) + "\n  return\n}\n"


def main():
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    print("// -----\n".join(program(random.Random(f"{seed} {i}"))
                           for i in range(count)), end="")


if __name__ == "__main__":
    main()
