// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The records that are written here are kvrt_image and kvrt_kernel of
// lib/Runtime/kvrt_records.h, of the lists of fields that it has.
//
//===----------------------------------------------------------------------===//

#include "kvcache/Conversion/Passes.h"

#include "../../Runtime/kvrt_records.h"
#include "../Common/RuntimeCalls.h"
#include "Target/KernelBuilder.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/MapVector.h"

namespace kvcache {
#define GEN_PASS_DEF_CONVERTLAUNCHTORUNTIME
#include "kvcache/Conversion/Passes.h.inc"
} // namespace kvcache

using namespace mlir;
using namespace kvcache;

namespace {

static_assert(int(LaunchMode::in_order) == KVRT_LAUNCH_IN_ORDER &&
              int(LaunchMode::cooperative) == KVRT_LAUNCH_COOPERATIVE &&
              int(LaunchMode::overlapping) == KVRT_LAUNCH_OVERLAPPING);

/// The records, with what their pointers are set to; all else is zero.
#define FIELD_OF(type, name) LLVM::GlobalOp name;
struct ImageFields {
  KVRT_IMAGE_FIELDS(FIELD_OF)
};
struct KernelFields {
  KVRT_KERNEL_FIELDS(FIELD_OF)
};
#undef FIELD_OF
#define VALUE_OF(type, name) fields.name,

class LaunchRewriter {
public:
  explicit LaunchRewriter(ModuleOp module)
      : module(module), symbols(module), builder(module.getContext()),
        pointer(LLVM::LLVMPointerType::get(module.getContext())) {
#define TYPE_OF(type, name) typeOf<type>(),
    kernelType = LLVM::LLVMStructType::getLiteral(
        module.getContext(), {KVRT_KERNEL_FIELDS(TYPE_OF)});
    imageType = LLVM::LLVMStructType::getLiteral(module.getContext(),
                                                 {KVRT_IMAGE_FIELDS(TYPE_OF)});
#undef TYPE_OF
  }

  LogicalResult embed(gpu::BinaryOp binary) {
    if (binary.getObjects().size() != 1)
      return binary.emitOpError() << "is expected to have one object, got "
                                  << binary.getObjects().size();
    auto object = cast<gpu::ObjectAttr>(binary.getObjects()[0]);
    // PTX is text: the driver wants it to end in a zero.
    std::string bytes = object.getObject().getValue().str();
    if (object.getFormat() == gpu::CompilationTarget::Assembly)
      bytes.push_back('\0');
    Location loc = binary.getLoc();
    std::string name = binary.getName().str();
    builder.setInsertionPointToStart(module.getBody());
    auto data = LLVM::GlobalOp::create(
        builder, loc,
        LLVM::LLVMArrayType::get(builder.getI8Type(), bytes.size()),
        /*isConstant=*/true, LLVM::Linkage::Internal, name + "_code",
        builder.getStringAttr(bytes), /*alignment=*/64);
    symbols.insert(data);
    ImageFields fields;
    fields.bytes = data;
    images[binary.getNameAttr()] = createRecord(loc, name + "_image", imageType,
                                                {KVRT_IMAGE_FIELDS(VALUE_OF)});
    symbols.erase(binary);
    return success();
  }

  LogicalResult lower(gpu::LaunchFuncOp launch) {
    if (failed(check(launch)))
      return failure();
    LLVM::GlobalOp image = images.lookup(launch.getKernelModuleName());
    if (!image)
      return launch.emitOpError()
             << "there is no binary for " << launch.getKernel();
    Location loc = launch.getLoc();
    LLVM::GlobalOp kernel = getKernel(loc, image, launch.getKernelName());
    builder.setInsertionPoint(launch);
    Value record = LLVM::AddressOfOp::create(builder, loc, kernel);

    // An array of pointers to the parameters, each in its own slot.
    size_t count = launch.getKernelOperands().size();
    Value parameters = allocate(loc, pointer, count);
    for (auto [i, operand] : llvm::enumerate(launch.getKernelOperands())) {
      Value slot = operand;
      if (!isByValue(launch, i)) {
        slot = allocate(loc, operand.getType(), 1);
        LLVM::StoreOp::create(builder, loc, operand, slot);
      }
      Value entry =
          LLVM::GEPOp::create(builder, loc, pointer, pointer, parameters,
                              ArrayRef<LLVM::GEPArg>{int32_t(i)});
      LLVM::StoreOp::create(builder, loc, slot, entry);
    }
    gpu::KernelDim3 grid = launch.getGridSizeOperandValues();
    gpu::KernelDim3 block = launch.getBlockSizeOperandValues();
    Value shared = launch.getDynamicSharedMemorySize();
    if (!shared)
      shared = LLVM::ConstantOp::create(builder, loc, builder.getI32Type(), 0);
    SmallVector<Value> operands = {record};
    for (Value size : {grid.x, grid.y, grid.z})
      operands.push_back(toInteger(loc, size, 64));
    for (Value size : {block.x, block.y, block.z})
      operands.push_back(toInteger(loc, size, 32));
    Value mode = LLVM::ConstantOp::create(builder, loc, builder.getI32Type(),
                                          int32_t(getLaunchMode(launch)));
    operands.append({shared, mode, parameters});
    LLVM::LLVMFuncOp function = getLaunchFunction(launch, operands);
    if (!function)
      return failure();
    LLVM::CallOp::create(builder, loc, function, operands);
    launch.erase();
    return success();
  }

private:
  /// The run time has one stream, which it gets from the caller, and no
  /// clusters.
  LogicalResult check(gpu::LaunchFuncOp launch) {
    Operation *scope = SymbolTable::getNearestSymbolTable(launch);
    if (scope != module)
      return launch.emitOpError()
             << "is expected where symbols of the enclosing module are visible"
             << (scope
                     ? ", got one in '" + scope->getName().getStringRef() + "'"
                     : Twine());
    if (launch.getAsyncToken() || !launch.getAsyncDependencies().empty() ||
        launch.getAsyncObject())
      return launch.emitOpError()
             << "is expected to be launched in the stream of the caller, got a "
                "token or a stream";
    if (launch.hasClusterSize())
      return launch.emitOpError()
             << "is expected to be launched without clusters";
    for (Type type : launch.getKernelOperands().getTypes())
      if (!LLVM::isCompatibleType(type))
        return launch.emitOpError()
               << "operands are expected to have LLVM types, got " << type;
    return success();
  }
  template <typename Field> Type typeOf() {
    if (std::is_pointer_v<Field>)
      return pointer;
    return builder.getIntegerType(8 * sizeof(Field));
  }
  static bool isByValue(gpu::LaunchFuncOp launch, int32_t parameter) {
    auto numbers = launch->getAttrOfType<DenseI32ArrayAttr>(kByValueName);
    return numbers && llvm::is_contained(numbers.asArrayRef(), parameter);
  }
  Value toInteger(Location loc, Value size, unsigned width) {
    Type type = builder.getIntegerType(width);
    if (size.getType().isIndex())
      return arith::IndexCastOp::create(builder, loc, type, size);
    unsigned given = size.getType().getIntOrFloatBitWidth();
    if (given < width)
      return LLVM::ZExtOp::create(builder, loc, type, size);
    return given > width ? LLVM::TruncOp::create(builder, loc, type, size)
                         : size;
  }

  /// Stack memory of the function, so that a launch in a loop does not grow it.
  Value allocate(Location loc, Type type, size_t count) {
    OpBuilder::InsertionGuard guard(builder);
    Region *body = builder.getInsertionBlock()->getParent();
    while (!body->getParentOp()->hasTrait<OpTrait::IsIsolatedFromAbove>())
      body = body->getParentRegion();
    builder.setInsertionPointToStart(&body->front());
    Value size = LLVM::ConstantOp::create(builder, loc, builder.getI64Type(),
                                          int64_t(count));
    return LLVM::AllocaOp::create(builder, loc, pointer, type, size);
  }

  LLVM::GlobalOp createRecord(Location loc, const Twine &name,
                              LLVM::LLVMStructType type,
                              ArrayRef<LLVM::GlobalOp> fields) {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(module.getBody());
    auto global = LLVM::GlobalOp::create(
        builder, loc, type, /*isConstant=*/false, LLVM::Linkage::Internal,
        name.str(), Attribute(), /*alignment=*/8);
    symbols.insert(global);
    builder.createBlock(&global.getInitializerRegion());
    Value record = LLVM::ZeroOp::create(builder, loc, type);
    for (auto [i, field] : llvm::enumerate(fields)) {
      if (!field)
        continue;
      Value address = LLVM::AddressOfOp::create(builder, loc, field);
      record = LLVM::InsertValueOp::create(builder, loc, record, address, i);
    }
    LLVM::ReturnOp::create(builder, loc, record);
    return global;
  }

  LLVM::GlobalOp getKernel(Location loc, LLVM::GlobalOp image,
                           StringAttr name) {
    LLVM::GlobalOp &kernel = kernels[{image.getSymNameAttr(), name}];
    if (kernel)
      return kernel;
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(module.getBody());
    std::string text = name.str() + '\0';
    auto string = LLVM::GlobalOp::create(
        builder, loc,
        LLVM::LLVMArrayType::get(builder.getI8Type(), text.size()),
        /*isConstant=*/true, LLVM::Linkage::Internal,
        image.getSymName().str() + "_" + name.str() + "_name",
        builder.getStringAttr(text), /*alignment=*/1);
    symbols.insert(string);
    KernelFields fields;
    fields.image = image;
    fields.name = string;
    kernel = createRecord(loc, image.getSymName() + "_" + name.strref(),
                          kernelType, {KVRT_KERNEL_FIELDS(VALUE_OF)});
    return kernel;
  }

  /// Null, after an error, if something else has the name.
  LLVM::LLVMFuncOp getLaunchFunction(gpu::LaunchFuncOp launch,
                                     ArrayRef<Value> operands) {
    auto type = LLVM::LLVMFunctionType::get(
        LLVM::LLVMVoidType::get(module.getContext()),
        llvm::to_vector(ValueRange(operands).getTypes()));
    return getRuntimeFunction(module, symbols, launch, "kvrt_launch", type);
  }

  ModuleOp module;
  SymbolTable symbols;
  OpBuilder builder;
  LLVM::LLVMPointerType pointer;
  LLVM::LLVMStructType kernelType, imageType;
  llvm::DenseMap<StringAttr, LLVM::GlobalOp> images;
  llvm::DenseMap<std::pair<StringAttr, StringAttr>, LLVM::GlobalOp> kernels;
};

struct ConvertLaunchToRuntime
    : kvcache::impl::ConvertLaunchToRuntimeBase<ConvertLaunchToRuntime> {
  void runOnOperation() override {
    // A launch finds binaries of its own module only.
    llvm::MapVector<ModuleOp, SmallVector<gpu::LaunchFuncOp>> launchesOf;
    getOperation().walk<WalkOrder::PreOrder>([&](Operation *op) {
      if (auto module = dyn_cast<ModuleOp>(op))
        launchesOf.insert({module, {}});
      else if (auto launch = dyn_cast<gpu::LaunchFuncOp>(op))
        launchesOf[op->getParentOfType<ModuleOp>()].push_back(launch);
    });
    for (auto &[module, launches] : launchesOf)
      if (failed(lower(module, launches)))
        return signalPassFailure();
  }

private:
  static LogicalResult lower(ModuleOp module,
                             ArrayRef<gpu::LaunchFuncOp> launches) {
    LaunchRewriter rewriter(module);
    for (auto binary :
         llvm::make_early_inc_range(module.getOps<gpu::BinaryOp>()))
      if (failed(rewriter.embed(binary)))
        return failure();
    for (gpu::LaunchFuncOp launch : launches)
      if (failed(rewriter.lower(launch)))
        return failure();
    module->removeAttr(gpu::GPUDialect::getContainerModuleAttrName());
    return success();
  }
};

} // namespace
