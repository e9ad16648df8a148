// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The dialect, and the common parts of its attributes, types and operations.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_BASE_TD
#define KVCACHE_IR_BASE_TD

include "kvcache/IR/KVCacheInterfaces.td"

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/Interfaces/DestinationStyleOpInterface.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def KVCache_Dialect : Dialect {
  let name = "kvcache";
  let cppNamespace = "::kvcache";
  let summary = "Paged key/value caches of LLM inference, with layouts as types";
  let description = [{
    A paged cache stores the keys and values of past tokens in blocks of a fixed
    number of tokens. The place of an element is determined by the order of the
    axes and by their strides. In this dialect both are part of the *type* of a
    cache, so that a pass can prove what is a view and what is a copy, and a
    lowering can derive addresses and access widths from facts instead of
    guesses.

    A program describes accesses to a cache in logical terms:

    ```mlir
    !kv    = !kvcache.cache<2S x ?B x 16N x 8H x 128D x bf16>
    !slots = !kvcache.slots<?T x i64, rows_per_block = 16, pad = skip_negative>

    func.func @insert(%pool: memref<2x?x16x8x128xbf16>, %slots: tensor<?xi64>,
                      %key: tensor<?x8x128xbf16>, %value: tensor<?x8x128xbf16>) {
      %cache = kvcache.view %pool : memref<2x?x16x8x128xbf16> to !kv
      %where = kvcache.make_slots %slots : tensor<?xi64> to !slots
      kvcache.index_copy %key, %value into %cache at %where
        : tensor<?x8x128xbf16>, tensor<?x8x128xbf16> into !kv at !slots
      return
    }
    ```

    A cache value is a reference and never owns memory. Operations on it have
    memory effects; nothing is copied unless an operation is documented to copy.

    Constraint of all operations:
      * `extents_c1` constant extents of a tensor or memref are at most 2^40,
        and the product of the nonzero ones is at most 2^54
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::memref::MemRefDialect"];
  let hasConstantMaterializer = 1;
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
  let hasOperationAttrVerify = 1;
  let hasRegionArgAttrVerify = 1;
  let extraClassDeclaration = [{
    void registerTypes();

    /// Makes the type that a format is of one that caches may have.
    void addFormat(const ::kvcache::Format &format);
    /// The format whose values have a type, or are stored as one; null if there
    /// is none.
    static const ::kvcache::Format *formatOf(::mlir::Type stored);
    /// The formats as listed in a message: `f16, bf16 or f32`. Those that mean
    /// nothing without scales are left out.
    static ::std::string listFormats(::mlir::MLIRContext *context);

    /// Argument attribute: the name of the argument in messages, header and
    /// manifest.
    static constexpr ::llvm::StringLiteral kNameAttr = "kvcache.name";
    /// Argument attribute: the promised alignment in bytes of the base of a
    /// tensor or memref argument, and of each of its rows.
    static constexpr ::llvm::StringLiteral kAlignAttr = "kvcache.align";
    /// Argument attribute (unit): no other argument overlaps the memory of this
    /// argument. Without it, arguments may alias.
    static constexpr ::llvm::StringLiteral kNoAliasAttr = "kvcache.noalias";
    /// Argument attribute (unit): the tensor or memref is in host memory, pinned
    /// if a device reads it.
    static constexpr ::llvm::StringLiteral kHostAttr = "kvcache.host";
    /// Attribute of a function without a body that calls the named one once for
    /// each iteration of a parallel loop.
    static constexpr ::llvm::StringLiteral kParallelBodyAttr =
        "kvcache.parallel_body";
    /// Attribute (unit) of an `scf.if` that was put around an operation, which
    /// runs only if its operands passed their checks.
    static constexpr ::llvm::StringLiteral kCheckedAttr = "kvcache.checked";
    /// Attribute of a module: the `#kvcache.target` its code is generated for.
    static constexpr ::llvm::StringLiteral kTargetAttr = "kvcache.target";
    /// Attribute of a `gpu.launch_func`: a `#kvcache.launch_mode`.
    static constexpr ::llvm::StringLiteral kLaunchModeAttr =
        "kvcache.launch_mode";

  private:
    ::llvm::SmallVector<const ::kvcache::Format *> formats;
  }];
}

def KVCache_BoundedExtents : KVCache_Trait<"BoundedExtents">;

/// Every operation of the dialect. Mnemonics are verbs, or a noun for the
/// result; operands that are written come after `into`, index values after
/// `at`.
class KVCache_Op<string mnemonic, list<Trait> traits = []>
    : Op<KVCache_Dialect, mnemonic,
         !listconcat([KVCache_BoundedExtents], traits)>;

/// An operation that describes the caches, and the entries of lists, that it
/// accesses.
class KVCache_Accesses<list<string> says = []>
    : DeclareOpInterfaceMethods<KVCache_CacheAccessOpInterface, says>;

/// An operation in destination style: it writes its operand `dest`, after
/// `into`. The buffers of an operation are all tensors or all memrefs. Each
/// destination that is a tensor has a result of its type, which is omitted in
/// the assembly. `says` are the methods of CacheAccessOpInterface that it
/// implements besides its ties. `scales` are those of the destination, which come
/// after it and are written with it.
class KVCache_IntoOp<string mnemonic, string dest, list<string> says = [],
                     list<Trait> traits = [], string scales = "">
    : KVCache_Op<mnemonic, !listconcat([
          KVCache_Accesses<says>,
          DestinationStyleOpInterface,
          InferTypeOpAdaptor,
          DeclareOpInterfaceMethods<ReifyRankedShapedTypeOpInterface,
              ["reifyResultShapes"]>,
          DeclareOpInterfaceMethods<MemoryEffectsOpInterface>], traits)> {
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let hasVerifier = 1;
  code intoDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable();
  }];
  let extraClassDeclaration = intoDeclaration;
  let extraClassDefinition = [{
    ::mlir::MutableOperandRange $cppClass::getDpsInitsMutable() {
      auto [first, count] = getODSOperandIndexAndLength(odsIndex_}] # dest # [{);
      return ::kvcache::destinations(*this, first, count);
    }
    ::llvm::LogicalResult $cppClass::inferReturnTypes(
        ::mlir::MLIRContext *, ::std::optional<::mlir::Location>,
        Adaptor adaptor, ::llvm::SmallVectorImpl<::mlir::Type> &types) {
      ::kvcache::inferFromDestinations(
          adaptor.getODSOperands(odsIndex_}] # dest # [{), types);
      return ::mlir::success();
    }
    ::llvm::LogicalResult $cppClass::reifyResultShapes(
        ::mlir::OpBuilder &builder,
        ::mlir::ReifiedRankedShapedTypeDims &shapes) {
      return ::kvcache::reifyFromDestinations(*this, builder, shapes);
    }
    void $cppClass::getEffects(
        ::llvm::SmallVectorImpl<::mlir::SideEffects::EffectInstance<
            ::mlir::MemoryEffects::Effect>> &effects) {
      auto [first, count] = getODSOperandIndexAndLength(odsIndex_}] # dest # [{);
      }] # !if(!empty(scales), "",
               "count += getODSOperandIndexAndLength(odsIndex_" # scales #
               ").second;") # [{
      ::kvcache::addBufferEffects(*this, first, count, effects);
    }
  }];
}

#endif // KVCACHE_IR_BASE_TD
