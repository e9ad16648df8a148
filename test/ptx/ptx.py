# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""An interpreter of the PTX that this project writes.

All threads of some blocks run as the lanes of NumPy arrays. Threads that are at
the same instruction go together; of several groups, the one that is furthest
behind goes first. Memory is that of the process, and only what `Memory` has
been told of: an access outside of it, or one that is not aligned, is an error,
as under compute-sanitizer. Instructions that are not known are errors too.
"""

import re

import numpy as np
import ref_elements

UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
SIGNED = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}
PAIRS = {"e4m3x2": "f8E4M3FN", "e5m2x2": "f8E5M2"}


class PtxError(RuntimeError):
    pass


class Memory:
    """The parts of the address space that kernels may touch."""

    def __init__(self):
        self._arrays = {}
        self._sorted = None

    def add(self, array):
        """Contiguous storage. Its owner keeps it alive until `clear`."""
        raw = array.reshape(-1).view(np.uint8)
        if raw.size:
            self._arrays[raw.ctypes.data] = raw
            self._sorted = None

    def clear(self):
        self._arrays, self._sorted = {}, None

    def check(self, address, nbytes, what):
        """That some bytes are all in one array."""
        for array in self._arrays.values():
            start = address - array.ctypes.data
            if 0 <= start <= array.size - nbytes:
                return
        raise PtxError(f"{what}: {nbytes} bytes at {address:#x} are in no "
                       "buffer")

    def find(self, addresses, nbytes, what):
        """(bytes of an array, offsets, lanes) for each array that is hit."""
        if self._sorted is None:
            self._sorted = np.array(sorted(self._arrays), np.uint64)
        wrong = addresses % np.uint64(nbytes) != 0
        if wrong.any():
            raise PtxError(f"{what}: {int(addresses[wrong][0]):#x} is not "
                           f"aligned to {nbytes}")
        place = np.searchsorted(self._sorted, addresses, "right") - 1
        for k in np.unique(place):
            lanes = np.nonzero(place == k)[0]
            base = self._sorted[max(k, 0)]
            array = self._arrays.get(int(base), np.empty(0, np.uint8))
            # Wraps, and is then too large, where an address is below all.
            offsets = addresses[lanes] - base
            outside = offsets > np.uint64(max(array.size - nbytes, 0))
            if k < 0 or outside.any() or array.size < nbytes:
                raise PtxError(f"{what}: {int(addresses[lanes][0]):#x} is in "
                               "no buffer")
            yield array, offsets.astype(np.int64), lanes


def _gather(array, offsets, nbytes):
    return np.stack([array[offsets + i] for i in range(nbytes)], axis=1)


def _narrow(value, to):
    """The bits of f32 in 16 bits, to the nearest, ties to even."""
    value = value.astype(np.float32)
    if to == "f16":
        return value.astype(np.float16).view(np.uint16)
    bits = value.view(np.uint32).astype(np.uint64)
    odd = bits >> np.uint64(16) & np.uint64(1)
    half = (bits + np.uint64(0x7FFF) + odd >> np.uint64(16)).astype(np.uint16)
    half[np.isnan(value)] = 0x7FFF
    return half


class Instruction:
    PATTERN = re.compile(r"(?:@(!?)(%\w+)\s+)?([\w.:]+)\s*(.*)", re.S)

    def __init__(self, text):
        match = self.PATTERN.fullmatch(text)
        if not match:
            raise PtxError(f"cannot read '{text}'")
        self.text = text
        self.negated, self.guard = bool(match[1]), match[2]
        self.name = match[3].split(".")
        self.operands = [o.strip() for o in
                         re.split(r",\s*(?![^{]*\})", match[4]) if o.strip()]


class Kernel:
    def __init__(self, name, parameters, body):
        self.name = name
        self.parameters = parameters  # (name, bytes)
        self.shared = {}
        self.shared_bytes = 0
        self.code, self.labels = [], {}
        self.types = {}
        for line in body:
            self._read(line)

    def declare_shared(self, line):
        match = re.search(r"\.align (\d+) \.b8 ([\w$]+)\[(\d+)\]", line)
        align, size = int(match[1]), int(match[3])
        at = -(-self.shared_bytes // align) * align
        self.shared[match[2]] = at
        self.shared_bytes = at + size

    def _read(self, line):
        if line.startswith(".reg"):
            match = re.fullmatch(r"\.reg \.(\w+)\s+(%\w+)<(\d+)>", line)
            self.types[match[2]] = match[1]
        elif ".shared" in line.split()[:2]:
            self.declare_shared(line)
        elif line.endswith(":"):
            self.labels[line[:-1]] = len(self.code)
        elif line.startswith(".local"):
            raise PtxError(f"{self.name} uses local memory")
        else:
            self.code.append(Instruction(line))


def parse(text):
    """The kernels of a module, by name."""
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r"^\s*\.(loc|pragma)\b[^\n]*", "", text, flags=re.M)
    text = re.sub(r"\.section[^{]*\{.*", "", text, flags=re.S)
    shared = [s.strip() for s in
              re.findall(r"^(?:\.visible |\.extern )?\.shared[^;]*", text, re.M)]
    kernels = {}
    for match in re.finditer(r"\.entry\s+(\w+)\(([^)]*)\)([^{]*)\{", text):
        depth, at = 1, match.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        parameters = [
            (p.split()[-1], int(re.search(r"\.[usbf](\d+)", p)[1]) // 8)
            for p in match[2].split(",") if p.strip()]
        body = re.sub(r"(\$\w+:)", r"\1;", text[match.end() : at - 1])
        lines = [" ".join(s.split()) for s in body.split(";")]
        # A block of an inline text has registers of its own.
        lines = [s for s in lines if s]
        kernel = Kernel(match[1], parameters, lines)
        for line in shared:
            if line.split()[-1].split("[")[0] in text:
                kernel.declare_shared(line)
        kernels[match[1]] = kernel
    return kernels


class Run:
    """Some blocks of a launch."""

    LIMIT = 2_000_000  # instructions of a group

    def __init__(self, kernel, blocks, grid, block, values, memory):
        self.kernel, self.memory = kernel, memory
        self.threads = int(np.prod(block))
        self.lanes = len(blocks) * self.threads
        self.registers, self.values = {}, values
        self.votes = np.zeros(self.lanes, bool)
        self.shared = np.zeros((len(blocks), max(1, kernel.shared_bytes)),
                               np.uint8)
        thread = np.tile(np.arange(self.threads), len(blocks))
        self.block_of = np.repeat(np.arange(len(blocks)), self.threads)
        number = np.repeat(np.asarray(blocks), self.threads)
        self.special = {}
        for what, index, sizes in (("tid", thread, block),
                                   ("ctaid", number, grid)):
            for axis, size in zip("xyz", sizes):
                self.special[f"%{what}.{axis}"] = (index % size).astype(
                    np.uint32)
                index = index // size
                counts = {"tid": "%ntid", "ctaid": "%nctaid"}[what]
                self.special[f"{counts}.{axis}"] = np.full(
                    self.lanes, size, np.uint32)

    def run(self):
        code, labels = self.kernel.code, self.kernel.labels
        pc = np.zeros(self.lanes, np.int64)
        waiting = np.zeros(self.lanes, bool)
        end = len(code)
        for _ in range(self.LIMIT):
            ready = ~waiting & (pc < end)
            if not ready.any():
                arrived = (waiting | (pc >= end)).reshape(-1, self.threads)
                assert arrived.all()
                if not waiting.any():
                    return
                waiting[:] = False
                continue
            at = int(pc[ready].min())
            lanes = np.nonzero(ready & (pc == at))[0]
            instruction = code[at]
            pc[lanes] += 1
            if instruction.guard:
                holds = self.registers[instruction.guard][lanes]
                lanes = lanes[holds != instruction.negated]
                if not len(lanes):
                    continue
            name = instruction.name[0]
            if name == "bra":
                pc[lanes] = labels[instruction.operands[0]]
            elif name in ("ret", "exit"):
                pc[lanes] = end
            elif name in ("bar", "barrier"):
                waiting[lanes] = True
                if "red" in instruction.name:
                    self.votes[lanes] = self._predicate(
                        instruction.operands[-1], lanes)
                here = waiting.reshape(-1, self.threads)
                done = (pc >= end).reshape(-1, self.threads)
                full = (here | done).all(axis=1)
                if "red" in instruction.name and full.any():
                    self._vote(instruction, full, here)
                here[full] = False
            else:
                try:
                    self.execute(instruction, lanes)
                except PtxError as error:
                    raise PtxError(f"{self.kernel.name}: '{instruction.text}'"
                                   f": {error}") from None
        raise PtxError(f"{self.kernel.name} does not end")

    def _vote(self, instruction, full, here):
        """Gives the threads of whole blocks what all of them said together."""
        if "and" not in instruction.name:
            raise PtxError(f"'{instruction.text}': a vote that is not known")
        votes = (self.votes.reshape(-1, self.threads) | ~here).all(axis=1)
        lanes = np.nonzero(np.repeat(full, self.threads)
                           & here.reshape(-1))[0]
        self.put(instruction.operands[0], votes[lanes // self.threads], lanes)

    # --- Registers ------------------------------------------------------------

    def _unsigned(self, operand, nbytes, lanes):
        """The bits of an operand."""
        type_ = UNSIGNED[nbytes]
        if operand in self.registers:
            value = self.registers[operand][lanes]
            if value.dtype == bool:
                return value
            return value.astype(type_)
        if operand in self.special:
            return self.special[operand][lanes].astype(type_)
        if operand in self.kernel.shared:
            return np.full(len(lanes), self.kernel.shared[operand], type_)
        if operand.startswith("0f"):
            bits = int(operand[2:], 16)
        elif operand.startswith("0x"):
            bits = int(operand.rstrip("U"), 16)
        else:
            try:
                bits = int(operand)
            except ValueError:
                raise PtxError(f"nothing was written to {operand}") from None
        return np.full(len(lanes), bits % (1 << 8 * nbytes), type_)

    def _predicate(self, operand, lanes):
        if operand in self.registers:
            return self.registers[operand][lanes]
        return np.full(len(lanes), int(operand) != 0)

    def get(self, operand, type_, lanes):
        nbytes = max(1, int(re.sub(r"\D", "", type_.replace("bf", "b"))) // 8)
        raw = self._unsigned(operand, nbytes, lanes)
        if type_[0] == "s":
            return raw.view(SIGNED[nbytes])
        if type_ == "f32":
            return raw.view(np.float32)
        if type_ == "f16":
            return raw.view(np.float16)
        if type_ == "bf16":
            return (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return raw

    def put(self, register, value, lanes):
        value = np.ascontiguousarray(value)
        if value.dtype != bool:
            value = value.view(UNSIGNED[value.dtype.itemsize])
        prefix = re.match(r"%[a-z]+", register)[0]
        declared = self.kernel.types[prefix]
        if declared != "pred":
            wanted = UNSIGNED[int(declared[1:]) // 8]
            value = value.astype(wanted)
        if register not in self.registers:
            self.registers[register] = np.zeros(self.lanes, value.dtype)
        self.registers[register][lanes] = value

    # --- Instructions ---------------------------------------------------------

    def execute(self, instruction, lanes):
        name = instruction.name
        method = getattr(self, f"_do_{name[0]}", None)
        if method is None:
            raise PtxError("an instruction that is not known")
        with np.errstate(all="ignore"):
            method(name, instruction.operands, lanes)

    def _address(self, operand, lanes):
        base, _, offset = operand.strip("[]").partition("+")
        return base, int(offset or 0)

    @staticmethod
    def _list(operand):
        return [o.strip() for o in operand.strip("{}").split(",")]

    def _access(self, name):
        space = next((s for s in name if s in ("global", "shared", "param")),
                     None)
        if space is None:
            raise PtxError("a generic access")
        type_ = name[-1]
        return space, int(re.sub(r"\D", "", type_)) // 8, type_

    def _do_ld(self, name, operands, lanes):
        space, nbytes, type_ = self._access(name)
        base, offset = self._address(operands[1], lanes)
        targets = self._list(operands[0])
        if space == "param":
            value = self.values[base] >> 8 * offset
            self.put(targets[0], np.full(
                len(lanes), value % (1 << 8 * nbytes), UNSIGNED[nbytes]), lanes)
            return
        total = nbytes * len(targets)
        raw = np.empty((len(lanes), total), np.uint8)
        if space == "shared":
            at = self._shared(base, offset, total, lanes)
            raw = self.shared[self.block_of[lanes][:, None], at]
        else:
            at = self._unsigned(base, 8, lanes) + np.uint64(offset % 2**64)
            for array, offsets, some in self.memory.find(at, total, "a load"):
                raw[some] = _gather(array, offsets, total)
        raw = np.ascontiguousarray(raw)
        for i, target in enumerate(targets):
            part = np.ascontiguousarray(raw[:, i * nbytes : (i + 1) * nbytes])
            value = part.view(UNSIGNED[nbytes])[:, 0]
            if type_[0] == "s":  # extended to the register
                value = value.view(SIGNED[nbytes]).astype(np.int64)
            self.put(target, value, lanes)

    def _shared(self, base, offset, nbytes, lanes):
        at = self._unsigned(base, 8, lanes).astype(np.int64) + offset
        if (at % nbytes).any() or (at < 0).any() or (
                at + nbytes > self.kernel.shared_bytes).any():
            raise PtxError("an access outside of shared memory, or not aligned")
        return at[:, None] + np.arange(nbytes)

    def _do_st(self, name, operands, lanes):
        space, nbytes, _ = self._access(name)
        base, offset = self._address(operands[0], lanes)
        values = [self._unsigned(v, nbytes, lanes)
                  for v in self._list(operands[1])]
        raw = np.concatenate([v.view(np.uint8).reshape(-1, nbytes)
                              for v in values], axis=1)
        total = raw.shape[1]
        if space == "shared":
            at = self._shared(base, offset, total, lanes)
            self.shared[self.block_of[lanes][:, None], at] = raw
            return
        at = self._unsigned(base, 8, lanes) + np.uint64(offset % 2**64)
        for array, offsets, some in self.memory.find(at, total, "a store"):
            for i in range(total):
                array[offsets + i] = raw[some, i]

    def _do_mov(self, name, operands, lanes):
        nbytes = int(re.sub(r"\D", "", name[-1]) or 8) // 8
        if name[-1] == "pred":
            self.put(operands[0], self._predicate(operands[1], lanes), lanes)
        elif operands[0].startswith("{"):
            parts = self._list(operands[0])
            raw = self._unsigned(operands[1], nbytes, lanes)
            size = nbytes // len(parts)
            pieces = raw.view(UNSIGNED[size]).reshape(len(lanes), -1)
            for part, piece in zip(parts, pieces.T):
                if part != "_":
                    self.put(part, piece, lanes)
        elif operands[1].startswith("{"):
            parts = self._list(operands[1])
            size = nbytes // len(parts)
            raw = np.stack([self._unsigned(p, size, lanes) for p in parts], 1)
            self.put(operands[0],
                     np.ascontiguousarray(raw).view(UNSIGNED[nbytes])[:, 0],
                     lanes)
        else:
            self.put(operands[0], self._unsigned(operands[1], nbytes, lanes),
                     lanes)

    def _binary(self, name, operands, lanes, function):
        a, b = (self.get(o, name[-1], lanes) for o in operands[1:3])
        value = function(a, b)
        self.put(operands[0], value.astype(a.dtype), lanes)

    def _do_shfl(self, name, operands, lanes):
        """Of a whole warp, whose lanes are all here."""
        if "bfly" not in name or self.threads % 32:
            raise PtxError("a shuffle that is not known")
        here = np.zeros(self.lanes, bool)
        here[lanes] = True
        if not here.reshape(-1, 32).all(axis=1)[lanes // 32].all():
            raise PtxError("a shuffle that some lanes of a warp do not get to")
        others = lanes ^ self._unsigned(operands[2], 4, lanes).astype(int)
        self.put(operands[0], self._unsigned(operands[1], 4, others), lanes)

    def _do_add(self, name, operands, lanes):
        self._binary(name, operands, lanes, np.add)

    def _do_sub(self, name, operands, lanes):
        self._binary(name, operands, lanes, np.subtract)

    def _halves(self, name, operands, lanes, function):
        """One of two numbers of 16 bits, or of each of two pairs."""
        half, pair = re.fullmatch(r"(b?f16)(x2)?", name[-1]).groups()
        size = 4 if pair else 2
        raw = [self._unsigned(o, size, lanes).view(np.uint16)
               for o in operands[1:3]]
        floats = [(r.astype(np.uint32) << np.uint32(16)).view(np.float32)
                  if half == "bf16" else r.view(np.float16) for r in raw]
        value = function(*floats)
        narrow = (value.view(np.uint32) >> np.uint32(16)
                  if half == "bf16" else value.view(np.uint16))
        self.put(operands[0], narrow.astype(np.uint16).view(UNSIGNED[size]),
                 lanes)

    def _do_min(self, name, operands, lanes):
        if "f16" in name[-1]:
            return self._halves(name, operands, lanes, np.fmin)
        fmin = name[-1][0] == "f"
        self._binary(name, operands, lanes, np.fmin if fmin else np.minimum)

    def _do_max(self, name, operands, lanes):
        if "f16" in name[-1]:
            return self._halves(name, operands, lanes, np.fmax)
        fmax = name[-1][0] == "f"
        self._binary(name, operands, lanes, np.fmax if fmax else np.maximum)

    def _do_div(self, name, operands, lanes):
        if name[-1][0] == "f":
            return self._binary(name, operands, lanes, np.divide)
        zero = self.get(operands[2], name[-1], lanes) == 0
        if zero.any():
            raise PtxError("a division by zero")
        self._binary(name, operands, lanes, lambda a, b: (
            np.sign(a) * np.sign(b) * (abs(a) // abs(b))
            if name[-1][0] == "s" else a // b))

    def _do_rem(self, name, operands, lanes):
        self._binary(name, operands, lanes, np.fmod)

    def _logic(self, name, operands, lanes, function):
        if name[-1] == "pred":
            a, b = (self._predicate(o, lanes) for o in operands[1:3])
            return self.put(operands[0], function(a, b), lanes)
        self._binary(name, operands, lanes, function)

    def _do_and(self, name, operands, lanes):
        self._logic(name, operands, lanes, np.bitwise_and)

    def _do_or(self, name, operands, lanes):
        self._logic(name, operands, lanes, np.bitwise_or)

    def _do_xor(self, name, operands, lanes):
        self._logic(name, operands, lanes, np.bitwise_xor)

    def _do_not(self, name, operands, lanes):
        if name[-1] == "pred":
            return self.put(operands[0], ~self._predicate(operands[1], lanes),
                            lanes)
        self.put(operands[0], ~self.get(operands[1], name[-1], lanes), lanes)

    def _do_neg(self, name, operands, lanes):
        value = self.get(operands[1], name[-1], lanes)
        self.put(operands[0], np.negative(value), lanes)

    def _do_abs(self, name, operands, lanes):
        masks = {"f32": 0x7FFFFFFF, "f16": 0x7FFF, "bf16": 0x7FFF,
                 "f16x2": 0x7FFF7FFF, "bf16x2": 0x7FFF7FFF}
        if name[-1] not in masks:
            raise PtxError("a type that is not known")
        mask = masks[name[-1]]
        type_ = UNSIGNED[2 if mask == 0x7FFF else 4]
        value = self._unsigned(operands[1], type_().itemsize, lanes)
        self.put(operands[0], value & type_(mask), lanes)

    def _product(self, name, a, b):
        """The whole product in twice the width, as two's complement."""
        wide = {"16": "32", "32": "64"}.get(name[-1][1:])
        if wide:
            type_ = (SIGNED if name[-1][0] == "s" else UNSIGNED)[int(wide) // 8]
            return a.astype(type_) * b.astype(type_)
        return [int(x) * int(y) for x, y in zip(a, b)]

    def _multiplied(self, name, operands, lanes):
        a, b = (self.get(o, name[-1], lanes) for o in operands[1:3])
        if name[-1][0] == "f" or "lo" in name:
            return a * b
        product = self._product(name, a, b)
        if "wide" in name:
            return product
        bits = int(name[-1][1:])
        if isinstance(product, list):
            return np.array([p >> bits & (1 << bits) - 1 for p in product],
                            np.uint64)
        return (product >> product.dtype.type(bits)).astype(a.dtype)

    def _do_mul(self, name, operands, lanes):
        self.put(operands[0], self._multiplied(name, operands, lanes), lanes)

    def _do_mad(self, name, operands, lanes):
        product = self._multiplied(name, operands, lanes)
        kind = "s" if product.dtype.kind == "i" else "u"
        third = self.get(operands[3], f"{kind}{8 * product.dtype.itemsize}",
                         lanes)
        self.put(operands[0], product + third, lanes)

    def _do_fma(self, name, operands, lanes):
        a, b, c = (self.get(o, "f32", lanes).astype(np.float64)
                   for o in operands[1:4])
        self.put(operands[0], (a * b + c).astype(np.float32), lanes)

    def _do_rsqrt(self, name, operands, lanes):
        value = self.get(operands[1], name[-1], lanes).astype(np.float64)
        with np.errstate(all="ignore"):
            root = (1 / np.sqrt(value)).astype(np.float32)
        self.put(operands[0], root, lanes)

    def _do_shl(self, name, operands, lanes):
        a = self.get(operands[1], name[-1], lanes)
        count = self.get(operands[2], "u32", lanes)
        bits = 8 * a.dtype.itemsize
        shifted = a << np.minimum(count, bits - 1).astype(a.dtype)
        self.put(operands[0], np.where(count < bits, shifted, 0).astype(
            a.dtype), lanes)

    def _do_shr(self, name, operands, lanes):
        a = self.get(operands[1], name[-1], lanes)
        count = self.get(operands[2], "u32", lanes)
        bits = 8 * a.dtype.itemsize
        shifted = a >> np.minimum(count, bits - 1).astype(a.dtype)
        if a.dtype.kind == "u":
            shifted = np.where(count < bits, shifted, 0).astype(a.dtype)
        self.put(operands[0], shifted, lanes)

    def _do_bfe(self, name, operands, lanes):
        a = self.get(operands[1], name[-1], lanes)
        at, length = (self.get(o, "u32", lanes) for o in operands[2:4])
        value = a.astype(np.int64).astype(np.uint64) >> at.astype(np.uint64)
        length = length.astype(np.uint64)
        value &= (np.uint64(1) << length) - np.uint64(1)
        if name[-1][0] == "s":
            sign = np.uint64(1) << length - np.uint64(1)
            value = (value ^ sign) - sign
        self.put(operands[0], value.astype(a.dtype), lanes)

    def _do_prmt(self, name, operands, lanes):
        a, b, select = (self.get(o, "u32", lanes) for o in operands[1:4])
        source = np.stack([a, b], 1).view(np.uint8).reshape(-1, 8)
        out = np.zeros((len(lanes), 4), np.uint8)
        for i in range(4):
            nibble = (select >> np.uint32(4 * i)) & np.uint32(15)
            value = source[np.arange(len(lanes)), nibble & np.uint32(7)]
            sign = np.where(value >> 7 != 0, 255, 0).astype(np.uint8)
            out[:, i] = np.where(nibble >= 8, sign, value)
        self.put(operands[0], out.view(np.uint32)[:, 0], lanes)

    def _do_setp(self, name, operands, lanes):
        compare = {"lt": np.less, "le": np.less_equal, "gt": np.greater,
                   "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
                   "lo": np.less, "ls": np.less_equal, "hi": np.greater,
                   "hs": np.greater_equal}
        a, b = (self.get(o, name[-1], lanes) for o in operands[1:3])
        word = name[1]
        if word == "nan":
            value = np.isnan(a) | np.isnan(b)
        elif word == "num":
            value = ~(np.isnan(a) | np.isnan(b))
        elif word in compare:
            value = compare[word](a, b)
            if a.dtype.kind == "f" and word == "ne":
                value &= ~(np.isnan(a) | np.isnan(b))
        elif word[:-1] in compare:  # true of NaN
            value = compare[word[:-1]](a, b) | np.isnan(a) | np.isnan(b)
        else:
            raise PtxError("a comparison that is not known")
        if len(operands) > 3 or len(name) > 3 and name[2] != "ftz":
            raise PtxError("a comparison with a second predicate")
        self.put(operands[0], value, lanes)

    def _do_selp(self, name, operands, lanes):
        a, b = (self.get(o, name[-1], lanes) for o in operands[1:3])
        chosen = self._predicate(operands[3], lanes)
        self.put(operands[0], np.where(chosen, a, b).astype(a.dtype), lanes)

    def _do_cvt(self, name, operands, lanes):
        to, source = name[-2:]
        if to in PAIRS or source in PAIRS:
            return self._convert_pair(name, to, source, operands, lanes)
        if to in ("bf16x2", "f16x2"):  # the first operand is the upper half
            upper, lower = (_narrow(self.get(o, source, lanes), to[:-2])
                            for o in operands[1:3])
            pair = upper.astype(np.uint32) << np.uint32(16) | lower
            return self.put(operands[0], pair, lanes)
        if name[1] in ("rn", "rz", "ftz") or to[0] in "fb" or (
                source[0] in "fb"):
            return self._convert_float(name, to, source, operands, lanes)
        value = self.get(operands[1], source, lanes)
        nbytes = int(to[1:]) // 8
        type_ = (SIGNED if to[0] == "s" else UNSIGNED)[nbytes]
        self.put(operands[0], self._widened(value.astype(type_), operands[0]),
                 lanes)

    def _convert_pair(self, name, to, source, operands, lanes):
        """Two bytes of one register; the first operand is the upper one."""
        if to in PAIRS:
            if source != "f32" or "satfinite" not in name:
                raise PtxError("a conversion that is not known")
            upper, lower = (
                ref_elements.bits(ref_elements.encode(
                    self.get(o, "f32", lanes), PAIRS[to])).astype(np.uint16)
                for o in operands[1:3])
            return self.put(operands[0], upper << np.uint16(8) | lower, lanes)
        pair = self.get(operands[1], "u16", lanes).view(np.uint8)
        storage = ref_elements.STORAGE[PAIRS[source]]
        halves = ref_elements.decode(pair.view(storage),
                                     PAIRS[source]).astype(np.float16)
        self.put(operands[0], halves.view(np.uint32), lanes)

    def _widened(self, value, register):
        """A result that is narrower than its register is extended."""
        declared = self.kernel.types[re.match(r"%[a-z]+", register)[0]]
        nbytes = int(declared[1:]) // 8
        if value.dtype.itemsize < nbytes:
            kind = SIGNED if value.dtype.kind == "i" else UNSIGNED
            return value.astype(kind[nbytes])
        return value

    def _convert_float(self, name, to, source, operands, lanes):
        value = self.get(operands[1], source, lanes)
        if to in ("bf16", "f16"):
            return self.put(operands[0], _narrow(value, to), lanes)
        types = {"f32": np.float32, "s32": np.int32,
                 "u32": np.uint32, "s64": np.int64}
        self.put(operands[0], value.astype(types[to]), lanes)

    def _do_ex2(self, name, operands, lanes):
        self.put(operands[0], np.exp2(self.get(operands[1], "f32", lanes)),
                 lanes)

    def _do_lg2(self, name, operands, lanes):
        self.put(operands[0], np.log2(self.get(operands[1], "f32", lanes)),
                 lanes)

    def _do_rcp(self, name, operands, lanes):
        self.put(operands[0], np.float32(1) / self.get(operands[1], "f32",
                                                       lanes), lanes)

    def _do_atom(self, name, operands, lanes):
        if "cas" not in name or "global" not in name or name[-1] != "b32":
            raise PtxError("an atomic operation that is not known")
        base, offset = self._address(operands[1], lanes)
        at = self._unsigned(base, 8, lanes) + np.uint64(offset % 2**64)
        expected, new = (self._unsigned(o, 4, lanes) for o in operands[2:4])
        old = np.empty(len(lanes), np.uint32)
        for array, offsets, some in self.memory.find(at, 4, "an atomic"):
            for k, place in zip(some, offsets):  # one after the other
                word = array[place : place + 4].view(np.uint32)
                old[k] = word[0]
                if word[0] == expected[k]:
                    word[0] = new[k]
        self.put(operands[0], old, lanes)

    def _do_fence(self, name, operands, lanes):
        pass

    def _do_griddepcontrol(self, name, operands, lanes):
        pass


def launch(kernel, grid, block, values, memory, lanes=1 << 14):
    """Run a kernel; `values` are the bits of the parameters by name."""
    count = int(np.prod(grid))
    step = max(1, lanes // int(np.prod(block)))
    for first in range(0, count, step):
        Run(kernel, range(first, min(first + step, count)), grid, block,
            values, memory).run()
