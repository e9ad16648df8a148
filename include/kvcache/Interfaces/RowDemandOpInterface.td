// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What an operation of another dialect tells the row-demand analysis. The
// types are explained in RowDemand.h.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_INTERFACES_ROWDEMANDOPINTERFACE_TD
#define KVCACHE_INTERFACES_ROWDEMANDOPINTERFACE_TD

include "mlir/IR/OpBase.td"

def RowDemandOpInterface : OpInterface<"RowDemandOpInterface"> {
  let cppNamespace = "::kvcache";
  let description = [{
    An operation that can be run on some rows of its results only. Rows are the
    elements with the same index in one dimension, whichever it is.

    An operation without this interface is taken to need all rows of all its
    operands, unless it is elementwise (`ElementwiseMappable`) or a `LinalgOp`:
    what these do follows from the trait, and from the indexing maps.
  }];
  let methods = [
    InterfaceMethod<[{
      Which dimensions of operands and results go with dimension `axis` of a
      result: row i of the results is made of row i of these operands, and of
      all of the others. Fails where rows are not made apart from each other,
      and then says in `why` what they are made of, as the end of a sentence
      that begins with the operation.
    }], "::llvm::FailureOr<::kvcache::RowAxes>", "getRowAxes",
      (ins "unsigned":$result, "int64_t":$axis, "::std::string &":$why),
      /*methodBody=*/"", /*defaultImplementation=*/[{
        why = "only reads rows that are named";
        return ::llvm::failure();
      }]>,
    InterfaceMethod<[{
      The same operation on the selected rows, before the insertion point of
      the builder. `axes` is what `getRowAxes` gave. Gives the new results, in
      the order of the old ones; null where `axes.results` has no dimension.
    }], "::llvm::SmallVector<::mlir::Value>", "createForRows",
      (ins "::mlir::OpBuilder &":$builder, "const ::kvcache::RowAxes &":$axes,
           "::kvcache::RowSelection &":$selection),
      /*methodBody=*/"", /*defaultImplementation=*/[{
        return ::kvcache::cloneForRows(builder, $_op, axes, selection);
      }]>,
    InterfaceMethod<[{
      The operands of which the operation reads only rows that an index value
      names, whatever is needed of its results.
    }], "::llvm::SmallVector<::kvcache::RowGather>", "getRowGathers", (ins),
      /*methodBody=*/"", /*defaultImplementation=*/[{ return {}; }]>,
    InterfaceMethod<[{
      Makes the operation read `rows`, the rows that `gather` names, in place of
      the operand that it reads them from; or gives those who use its results
      others. An operation without uses is erased afterwards.
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
