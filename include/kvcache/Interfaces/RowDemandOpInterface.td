// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// How operations of other dialects describe themselves to the row-demand
// analysis. The types are documented in RowDemand.h.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_INTERFACES_ROWDEMANDOPINTERFACE_TD
#define KVCACHE_INTERFACES_ROWDEMANDOPINTERFACE_TD

include "mlir/IR/OpBase.td"

def RowDemandOpInterface : OpInterface<"RowDemandOpInterface"> {
  let cppNamespace = "::kvcache";
  let description = [{
    An operation that can run on only some rows of its results. A row is the set
    of elements with the same index in one dimension, whichever it is.

    An operation without this interface is assumed to need all rows of all its
    operands, unless it is elementwise (`ElementwiseMappable`) or a `LinalgOp`,
    whose behaviour follows from the trait or from the indexing maps.
  }];
  let methods = [
    InterfaceMethod<[{
      Which dimensions of operands and results correspond to dimension `axis` of
      a result: row i of the results is computed from row i of these operands,
      and from all of the others. Fails if rows are not computed independently;
      `why` then gives the reason, as the end of a sentence that begins with the
      operation.
    }], "::llvm::FailureOr<::kvcache::RowAxes>", "getRowAxes",
      (ins "unsigned":$result, "int64_t":$axis, "::std::string &":$why),
      /*methodBody=*/"", /*defaultImplementation=*/[{
        why = "only reads rows that are named";
        return ::llvm::failure();
      }]>,
    InterfaceMethod<[{
      The same operation on the selected rows, before the insertion point of the
      builder. `axes` is the result of `getRowAxes`. Returns the new results, in
      the order of the old ones; null where `axes.results` has no dimension.
    }], "::llvm::SmallVector<::mlir::Value>", "createForRows",
      (ins "::mlir::OpBuilder &":$builder, "const ::kvcache::RowAxes &":$axes,
           "::kvcache::RowSelection &":$selection),
      /*methodBody=*/"", /*defaultImplementation=*/[{
        return ::kvcache::cloneForRows(builder, $_op, axes, selection);
      }]>,
    InterfaceMethod<[{
      The operands of which the operation reads only rows listed by an index
      value, whatever is needed of its results.
    }], "::llvm::SmallVector<::kvcache::RowGather>", "getRowGathers", (ins),
      /*methodBody=*/"", /*defaultImplementation=*/[{ return {}; }]>,
    InterfaceMethod<[{
      Makes the operation read `rows`, the rows that `gather` names, instead of
      the operand that it reads them from; or replaces the uses of its results.
      An operation without uses is erased afterwards.
    }], "void", "replaceRowGather",
      (ins "::mlir::RewriterBase &":$rewriter,
           "const ::kvcache::RowGather &":$gather, "::mlir::Value":$rows,
           "::kvcache::RowSelection &":$selection),
      /*methodBody=*/"", /*defaultImplementation=*/[{
        llvm_unreachable("an operation with gathers says how to replace them");
      }]>,
  ];
}

#endif // KVCACHE_INTERFACES_ROWDEMANDOPINTERFACE_TD
