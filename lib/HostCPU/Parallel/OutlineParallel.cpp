// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "../../Conversion/Common/FunctionSet.h"

#include "kvcache/HostCPU/Passes.h"
#include "kvcache/IR/KVCache.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Transforms/RegionUtils.h"
#include "llvm/ADT/MapVector.h"

#include <tuple>

namespace kvcache {
#define GEN_PASS_DEF_OUTLINEPARALLEL
#include "kvcache/HostCPU/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

/// A function in a module in the body of another function is none of its code.
static bool isOtherCode(Operation *op, Operation *root) {
  return op != root && op->hasTrait<OpTrait::IsIsolatedFromAbove>();
}

/// Loops that are in no other parallel loop below `root`.
static SmallVector<scf::ParallelOp> outermostLoops(Operation *root) {
  SmallVector<scf::ParallelOp> loops;
  root->walk<WalkOrder::PreOrder>([&](Operation *op) {
    auto loop = dyn_cast<scf::ParallelOp>(op);
    if (loop)
      loops.push_back(loop);
    return loop || isOtherCode(op, root) ? WalkResult::skip()
                                         : WalkResult::advance();
  });
  return loops;
}

/// The stream and the current device belong to the thread of the call.
static bool launchesKernels(scf::ParallelOp loop) {
  WalkResult walk = loop.walk([](Operation *op) {
    auto call = dyn_cast<LLVM::CallOp>(op);
    bool isLaunch = isa_and_present<gpu::GPUDialect>(op->getDialect()) ||
                    (call && call.getCallee() == "kvrt_launch");
    return isLaunch ? WalkResult::interrupt() : WalkResult::advance();
  });
  return walk.wasInterrupted();
}

static LogicalResult refuseAllocations(func::FuncOp function) {
  WalkResult walk = function.walk([](memref::AllocOp alloc) {
    if (!alloc->getParentOfType<scf::ParallelOp>())
      return WalkResult::advance();
    alloc.emitOpError() << "is expected outside the parallel loop: the "
                           "workspace belongs to the thread of the call; move "
                           "it before the loop, or use memref.alloca";
    return WalkResult::interrupt();
  });
  return failure(walk.wasInterrupted());
}

/// What lowers loops and arithmetic behind this pass does so in every body,
/// also of operations that stay as they are, and would leave those broken.
static LogicalResult refuseTensorBodies(ModuleOp module) {
  WalkResult walk = module.walk<WalkOrder::PreOrder>([](Operation *op) {
    if (isa<gpu::GPUModuleOp>(op))
      return WalkResult::skip();
    bool hasBody =
        op->getNumRegions() > 0 &&
        isa_and_present<linalg::LinalgDialect, tensor::TensorDialect>(
            op->getDialect());
    if (!hasBody)
      return WalkResult::advance();
    op->emitOpError() << "is expected to be bufferized and lowered";
    return WalkResult::interrupt();
  });
  return failure(walk.wasInterrupted());
}

/// Moves buffers of constant size out of loops, where the stack would grow with
/// every iteration.
static void hoistStackBuffers(Operation *root, Block &entry) {
  SmallVector<memref::AllocaOp> buffers;
  root->walk<WalkOrder::PreOrder>([&](Operation *op) {
    auto buffer = dyn_cast<memref::AllocaOp>(op);
    if (buffer && op->getNumOperands() == 0 && op->getBlock() != &entry)
      buffers.push_back(buffer);
    return isOtherCode(op, root) ? WalkResult::skip() : WalkResult::advance();
  });
  for (memref::AllocaOp buffer : buffers)
    buffer->moveBefore(&entry, entry.begin());
}

/// Puts constants first, each once, in the order in which they are used: bodies
/// are equal whether or not a constant was made outside.
static void gatherConstants(func::FuncOp function) {
  using Constant = std::tuple<OperationName, Attribute, Type>;
  llvm::MapVector<Constant, Operation *> constants;
  SmallVector<Operation *> all;
  function->walk<WalkOrder::PreOrder>([&](Operation *op) {
    if (isOtherCode(op, function))
      return WalkResult::skip();
    if (matchPattern(op, m_Constant()))
      all.push_back(op);
    for (OpOperand &operand : op->getOpOperands()) {
      Operation *def = operand.get().getDefiningOp();
      Attribute value;
      if (!def || !matchPattern(def, m_Constant(&value)))
        continue;
      Constant constant(def->getName(), value, operand.get().getType());
      Operation *first = constants.insert({constant, def}).first->second;
      operand.set(first->getResult(0));
    }
    return WalkResult::advance();
  });
  Block &entry = function.front();
  for (auto &[constant, op] : llvm::reverse(constants))
    op->moveBefore(&entry, entry.begin());
  for (Operation *op : all)
    if (op->use_empty())
      op->erase();
}

/// Turns a parallel loop into a nest of sequential ones; gives the outermost.
static scf::ForOp makeSequential(scf::ParallelOp loop) {
  OpBuilder builder(loop);
  Block *body = loop.getBody();
  auto reduce = cast<scf::ReduceOp>(body->getTerminator());
  auto moveTo = [](OpBuilder &builder, Block &from) {
    builder.getInsertionBlock()->getOperations().splice(
        builder.getInsertionPoint(), from.getOperations(), from.begin(),
        std::prev(from.end()));
  };
  scf::LoopNest nest = scf::buildLoopNest(
      builder, loop.getLoc(), loop.getLowerBound(), loop.getUpperBound(),
      loop.getStep(), loop.getInitVals(),
      [&](OpBuilder &builder, Location, ValueRange indices, ValueRange values) {
        for (auto [old, now] : llvm::zip_equal(body->getArguments(), indices))
          old.replaceAllUsesWith(now);
        moveTo(builder, *body);
        scf::ValueVector results;
        for (auto [value, operand, region] : llvm::zip_equal(
                 values, reduce.getOperands(), reduce.getReductions())) {
          Block &combine = region.front();
          combine.getArgument(0).replaceAllUsesWith(value);
          combine.getArgument(1).replaceAllUsesWith(operand);
          moveTo(builder, combine);
          results.push_back(
              cast<scf::ReduceReturnOp>(combine.getTerminator()).getResult());
        }
        return results;
      });
  loop.replaceAllUsesWith(nest.results);
  loop.erase();
  return nest.loops.front();
}

namespace {

/// The functions made so far.
struct Bodies {
  FunctionSet functions;
  llvm::DenseMap<func::FuncOp, func::FuncOp> all;
};

/// Makes a function of the body of a loop.
class LoopOutliner {
public:
  LoopOutliner(scf::ParallelOp loop, SymbolTable &symbols, Bodies &bodies)
      : loop(loop), symbols(symbols), bodies(bodies), loc(loop.getLoc()),
        builder(loop) {}

  /// Gives false if the function is one that was made before.
  bool outline(func::FuncOp parent, const Twine &name) {
    SmallVector<scf::ParallelOp> nested;
    loop.getBody()->walk(
        [&](scf::ParallelOp inner) { nested.push_back(inner); });
    for (scf::ParallelOp inner : nested)
      makeSequential(inner);

    computeTrips();
    collectCaptured();
    SmallVector<Value> operands = {trips.front()};
    for (Value trip : ArrayRef(trips).drop_front())
      operands.front() =
          builder.createOrFold<arith::MulIOp>(loc, operands.front(), trip);
    llvm::append_range(operands, captured);
    auto type = builder.getFunctionType(ValueRange(operands).getTypes(), {});

    auto function = func::FuncOp::create(loc, name.str(), type);
    function.setPrivate();
    fill(function);
    func::FuncOp known = bodies.functions.getOrInsert(function);
    func::FuncOp &all = bodies.all[known];
    bool isNew = !all;
    if (isNew)
      all = insert(function, parent);
    else
      function.erase();
    builder.setInsertionPoint(loop);
    func::CallOp::create(builder, loc, all, operands);
    loop.erase();
    return isNew;
  }

private:
  /// Gives what is called with the number of iterations.
  func::FuncOp insert(func::FuncOp function, func::FuncOp parent) {
    symbols.insert(function, std::next(parent->getIterator()));
    auto all = func::FuncOp::create(loc, (function.getName() + ".all").str(),
                                    function.getFunctionType());
    all.setPrivate();
    all->setAttr(KVCacheDialect::kParallelBodyAttr,
                 FlatSymbolRefAttr::get(function));
    symbols.insert(all, std::next(function->getIterator()));
    return all;
  }

  /// The number of iterations of each dimension.
  void computeTrips() {
    Value zero = arith::ConstantIndexOp::create(builder, loc, 0);
    Value one = arith::ConstantIndexOp::create(builder, loc, 1);
    for (auto [lower, upper, step] : llvm::zip_equal(
             loop.getLowerBound(), loop.getUpperBound(), loop.getStep())) {
      Value trip = builder.createOrFold<arith::SubIOp>(loc, upper, lower);
      trip = builder.createOrFold<arith::MaxSIOp>(loc, trip, zero);
      if (!isConstantIntValue(step, 1)) {
        Value most = builder.createOrFold<arith::SubIOp>(loc, step, one);
        trip = builder.createOrFold<arith::AddIOp>(loc, trip, most);
        trip = builder.createOrFold<arith::DivUIOp>(loc, trip, step);
      }
      trips.push_back(trip);
    }
  }

  /// Constants are cheaper to make again than to hand over, and say more.
  static bool isRemade(Value value) {
    Operation *op = value.getDefiningOp();
    return op && (op->hasTrait<OpTrait::ConstantLike>() ||
                  isa<memref::GetGlobalOp>(op));
  }

  void collectCaptured() {
    getUsedValuesDefinedAbove(loop.getRegion(), used);
    used.insert_range(loop.getLowerBound());
    used.insert_range(loop.getStep());
    used.insert_range(ArrayRef(trips).drop_front());
    for (Value value : used)
      if (!isRemade(value))
        captured.push_back(value);
  }

  void fill(func::FuncOp function) {
    Block &entry = *function.addEntryBlock();
    builder.setInsertionPointToStart(&entry);
    IRMapping mapping;
    mapping.map(captured, entry.getArguments().drop_front());
    for (Value value : used)
      if (isRemade(value))
        builder.clone(*value.getDefiningOp(), mapping);
    SmallVector<Value> indices = findIndices(entry.getArgument(0), mapping);

    Block *body = loop.getBody();
    for (auto [old, now] : llvm::zip_equal(body->getArguments(), indices))
      old.replaceAllUsesWith(now);
    // By operand: a value of the function may have uses in thousands of loops.
    body->walk([&](Operation *op) {
      for (OpOperand &operand : op->getOpOperands())
        if (used.contains(operand.get()))
          operand.set(mapping.lookup(operand.get()));
    });
    entry.getOperations().splice(entry.end(), body->getOperations(),
                                 body->begin(), std::prev(body->end()));
    builder.setInsertionPointToEnd(&entry);
    func::ReturnOp::create(builder, loc);
    gatherConstants(function);
    hoistStackBuffers(function, entry);
  }

  /// The indices of the loop from a number of all iterations, the last one
  /// fastest: one division for each dimension but the first, and none for those
  /// of one iteration.
  SmallVector<Value> findIndices(Value number, const IRMapping &mapping) {
    unsigned rank = trips.size();
    unsigned first = 0;
    while (first + 1 < rank && isConstantIntValue(trips[first], 1))
      ++first;
    Value zero;
    SmallVector<Value> indices(rank);
    for (unsigned d = rank; d-- > 0;) {
      Value place = number;
      if (d < first || (d > first && isConstantIntValue(trips[d], 1))) {
        if (!zero)
          zero = arith::ConstantIndexOp::create(builder, loc, 0);
        place = zero;
      } else if (d > first) {
        Value trip = mapping.lookup(trips[d]);
        Value slower = builder.createOrFold<arith::DivUIOp>(loc, number, trip);
        Value start = builder.createOrFold<arith::MulIOp>(loc, slower, trip);
        place = builder.createOrFold<arith::SubIOp>(loc, number, start);
        number = slower;
      }
      place = builder.createOrFold<arith::MulIOp>(
          loc, place, mapping.lookup(loop.getStep()[d]));
      indices[d] = builder.createOrFold<arith::AddIOp>(
          loc, place, mapping.lookup(loop.getLowerBound()[d]));
    }
    return indices;
  }

  scf::ParallelOp loop;
  SymbolTable &symbols;
  Bodies &bodies;
  Location loc;
  OpBuilder builder;
  SmallVector<Value> trips;
  llvm::SetVector<Value> used; ///< in the body, defined above
  SmallVector<Value> captured; ///< what becomes an argument
};

struct OutlineParallel : kvcache::impl::OutlineParallelBase<OutlineParallel> {
  using OutlineParallelBase::OutlineParallelBase;

  void runOnOperation() override {
    if (!early && failed(refuseTensorBodies(getOperation())))
      return signalPassFailure();
    SmallVector<ModuleOp> modules;
    getOperation().walk([&](ModuleOp module) { modules.push_back(module); });
    for (ModuleOp module : modules) {
      SymbolTable symbols(module);
      Bodies bodies;
      for (auto function : llvm::to_vector(module.getOps<func::FuncOp>()))
        if (failed(outline(function, symbols, bodies)))
          return signalPassFailure();
    }
  }

  static LogicalResult outline(func::FuncOp function, SymbolTable &symbols,
                               Bodies &bodies) {
    if (failed(refuseAllocations(function)))
      return failure();
    SmallVector<scf::ParallelOp> loops = outermostLoops(function);
    // The list grows: what is in a loop that became sequential is looked at.
    unsigned count = 0;
    for (size_t i = 0; i < loops.size(); ++i) {
      scf::ParallelOp loop = loops[i];
      if (loop.getNumReductions() == 0 && !launchesKernels(loop)) {
        count += LoopOutliner(loop, symbols, bodies)
                     .outline(function,
                              function.getName() + "_parallel_" + Twine(count));
        continue;
      }
      scf::ForOp nest = makeSequential(loop);
      hoistStackBuffers(nest, function.front());
      llvm::append_range(loops, outermostLoops(nest));
    }
    return success();
  }
};

} // namespace
