// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Keys that several requests begin with: which requests those are, and how many
// keys.
//
// The list of work has the prefixes first, as if they were requests with the
// rows of all of theirs, and then the requests, whose items begin after their
// prefix. Lists that are not in order, or groups beyond the requests, count as
// none at all, so that all blocks of threads agree on who waits for whom.
//
//===----------------------------------------------------------------------===//

#include "WorkSplit.h"

using namespace mlir;
using namespace kvcache;

void WorkSplit::countPrefixes() {
  Val given = as(k.parameter(parameters.numPrefixes), 32);
  auto raw = [&](Val index) {
    return k.val(parameters.groups.load(k, as(index, 64)));
  };
  Val most = as(requests, 64);
  Vals bad = k.rolledForLoop(lane, given, k.i32(32), {k.i32(0)},
                             [&](Val i, const Vals &sofar) -> Vals {
                               Val begin = raw(i), end = raw(i + 1);
                               Val isGroup = (begin >= 0) & (begin <= end) &
                                             (end <= most);
                               return {select(isGroup, sofar[0], k.i32(1))};
                             });
  w.syncWarp();
  prefixes = select(w.voteAny(bad[0] != 0), k.i32(0), given);
  listed = requests + prefixes;
}

WorkSplit::Group WorkSplit::loadGroup(Val number) {
  Val first = loadWithin(parameters.groups, number, requests);
  Val next = loadWithin(parameters.groups, number + 1, requests);
  Val start = loadStart(first), end = max(start, loadStart(next));
  Val units = loadWithin(parameters.prefixLengths, number, room) / split.unit;
  // One request alone has all of its keys itself.
  Val isUsed = (next - first >= 2) & (end <= kMostPrefixRows);
  return {start, end, select(isUsed, units, k.i32(0))};
}

/// The last group that does not begin after the request is the one that may
/// have it.
Vals WorkSplit::membership(Val request) {
  SmallVector<Type> types(2, k.getI32Type());
  Vals none = {k.i32(kAlone), k.i32(0)};
  Vals range = k.whileLoop(
      {k.i32(0), prefixes},
      [&](const Vals &n) -> CodeBuilder::Tested { return {n[0] < n[1], n}; },
      [&](const Vals &n) -> Vals {
        Val middle = (n[0] + n[1]) >> 1;
        Val first = loadWithin(parameters.groups, middle, requests);
        Val isBefore = first <= request;
        return {select(isBefore, middle + 1, n[0]),
                select(isBefore, n[1], middle)};
      });
  Val number = range[0] - 1;
  return k.ifThen(
      number >= 0, types,
      [&]() -> Vals {
        Group group = loadGroup(number);
        Val next = loadWithin(parameters.groups, number + 1, requests);
        Val isMember = (request < next) & (group.units > 0);
        return {select(isMember, group.start, k.i32(kAlone)), group.units};
      },
      [&]() -> Vals { return none; });
}

Vals WorkSplit::loadListed(Val number) {
  SmallVector<Type> types(loadedSize(), k.getI32Type());
  return k.ifThen(
      isPrefix(number), types,
      [&]() -> Vals {
        Group group = loadGroup(number);
        // Without rows it is no item.
        Val isUsed = group.units > 0;
        return {group.start, select(isUsed, group.end, group.start),
                group.units * split.unit, k.i32(kPrefix), k.i32(0)};
      },
      [&]() -> Vals {
        Val request = number - prefixes;
        Vals group = membership(min(request, requests - 1));
        return {loadStart(min(request, requests)),
                loadStart(min(request + 1, requests)),
                loadLength(min(request, requests - 1)), group[0], group[1]};
      });
}

/// The blocks of a prefix are those of the first request that has it.
Val WorkSplit::tableRow(const Item &item) {
  return k
      .ifThen(
          isPrefix(item.request), {k.getI32Type()},
          [&]() -> Vals {
            Val first = loadWithin(parameters.groups, item.request, requests);
            return {min(first, requests - 1)};
          },
          [&]() -> Vals { return {item.request - prefixes}; })
      .front();
}
