# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Which operations something with an effect depends on. A view that fails and is
not among them may be left out, with its error."""

_REGIONS = ("scf.if", "scf.for", "scf.while", "scf.index_switch",
            "scf.execute_region", "scf.parallel")


class Liveness:
    """Of all functions of a module. A value is a name in a scope, as regions
    beside each other may use a name twice; `needs` has the values that are used
    if a value is, or an operation that has an effect inside."""

    def __init__(self, functions):
        self.functions = functions
        self.needs, self.roots, self.effects = {}, set(), {}
        for function in functions.values():
            self._region(function.body, {}, function)
        self.live = set()
        waiting = [v for v in self.roots]
        while waiting:
            value = waiting.pop()
            if value not in self.live:
                self.live.add(value)
                waiting += self.needs.get(value, ())

    def is_live(self, op):
        return any((id(op), i) in self.live for i in range(len(op.results)))

    def _need(self, value, others):
        self.needs.setdefault(value, []).extend(others)

    def _region(self, region, scope, function):
        """Enter what a region uses; gives the operands of what ends it."""
        scope = dict(scope)
        for block in region.blocks:
            scope.update((name, (id(block), i))
                         for i, name in enumerate(block.arguments))
            for op in block.ops:
                scope.update((name, (id(op), i))
                             for i, name in enumerate(op.results))
        ends = []
        for block in region.blocks:
            for op in block.ops:
                operands = [scope[name] for name in op.operands]
                end = self._operation(op, operands, scope, region, function)
                if end is not None:
                    ends.append(end)
        return ends

    def _operation(self, op, operands, scope, region, function):
        results = [(id(op), i) for i in range(len(op.results))]
        if op.name in ("scf.yield", "scf.condition", "linalg.yield",
                       "tensor.yield", "scf.reduce", "scf.reduce.return"):
            return operands
        if op.name == "func.return":
            if function.public:
                self.roots.update(operands)
            for i, value in enumerate(operands):
                self._need((function.name, i), [value])
        elif op.name == "func.call":
            callee = self.functions.get(op.attributes["callee"])
            if callee is None:
                self.roots.update(operands)
                return None
            for i, result in enumerate(results):
                self._need(result, [(callee.name, i)])
            for value, given in zip(_arguments(callee.body), operands):
                self._need(value, [given])
        elif op.name.startswith("cf.") and op.successors:
            self._branch(op, operands, region)
        elif op.name in _REGIONS:
            self._structured(op, operands, results, scope, function)
        else:
            inner = [v for r in op.regions
                     for end in self._region(r, scope, function) for v in end]
            if not results:
                self.roots.update(operands + inner)
            for result in results:
                self._need(result, operands + inner)
        return None

    def _branch(self, op, operands, region):
        if op.name == "cf.br":
            groups, first = [len(operands)], 0
        elif op.name == "cf.cond_br":
            groups, first = op.attributes["operandSegmentSizes"][1:], 1
        else:
            sizes = op.attributes["operandSegmentSizes"]
            groups = [sizes[1], *op.attributes.get("case_segments", [])]
            first = 1
        self.roots.update(operands[:first])
        for successor, size in zip(op.successors, groups):
            block = region.names[successor]
            for i, given in enumerate(operands[first : first + size]):
                self._need((id(block), i), [given])
            first += size

    def _structured(self, op, operands, results, scope, function):
        ends = [self._region(r, scope, function) for r in op.regions]
        # What decides where a program goes is used if there is anything to do.
        decides, carried = operands, []
        if op.name == "scf.for":
            decides, carried = operands[:3], operands[3:]
        elif op.name == "scf.while":
            decides, carried = [], operands
        if op.name == "scf.while":
            before, after = op.regions
            (go, *passed), = ends[0]
            (again,) = ends[1]
            decides = [go]
            for value, given, more in zip(_arguments(before), carried, again):
                self._need(value, [given, more])
            for value, result, given in zip(_arguments(after), results, passed):
                self._need(value, [given])
                self._need(result, [given])
        elif op.name == "scf.for":
            (again,) = ends[0]
            for value, result, given, more in zip(
                    _arguments(op.regions[0])[1:], results, carried, again):
                self._need(value, [given, more])
                self._need(result, [given, more])
        else:
            for given in (values for end in ends for values in end):
                for result, value in zip(results, given):
                    self._need(result, [value])
        for result in results:
            self._need(result, decides)
        if any(self.has_effects(region) for region in op.regions):
            self.roots.update(decides)

    def has_effects(self, region):
        """Whether a region does anything but compute values."""
        known = self.effects.get(id(region))
        if known is None:
            # A function that calls itself does what else it does.
            self.effects[id(region)] = False
            known = self.effects[id(region)] = any(
                self._has_effect(op) for block in region.blocks
                for op in block.ops)
        return known

    def _has_effect(self, op):
        if op.name == "func.call":
            callee = self.functions.get(op.attributes["callee"])
            return callee is None or self.has_effects(callee.body)
        if op.name in _REGIONS:
            return any(self.has_effects(region) for region in op.regions)
        return not op.results and op.name not in _ENDS


_ENDS = ("scf.yield", "scf.condition", "scf.reduce", "func.return", "cf.br",
         "cf.cond_br", "cf.switch")


def _arguments(region):
    if not region.blocks:
        return []
    block = region.blocks[0]
    return [(id(block), i) for i in range(len(block.arguments))]
