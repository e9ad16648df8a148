// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Interfaces of operations and formats. Their types are documented in
// CacheAccess.h.
//
//===----------------------------------------------------------------------===//

#ifndef KVCACHE_IR_INTERFACES_TD
#define KVCACHE_IR_INTERFACES_TD

include "mlir/IR/OpBase.td"

def KVCache_CacheAccessOpInterface : OpInterface<"CacheAccessOpInterface"> {
  let cppNamespace = "::kvcache";
  let description = [{
    An operation that reads or writes elements of caches, rows, or the lists and
    batches that index them. Passes, signatures and reports handle such
    operations through this interface alone.
  }];
  let methods = [
    InterfaceMethod<[{
      The caches whose elements are read or written, in operand order.
    }], "::llvm::SmallVector<::kvcache::CacheUse>", "getCacheUses", (ins),
      /*methodBody=*/"", /*defaultImplementation=*/[{ return {}; }]>,
    InterfaceMethod<[{
      The entries that are read from lists and batches, and their upper bounds.
      `kvcache-insert-checks` turns them into checks.
    }], "::kvcache::IndexUses", "getIndexUses", (ins),
      /*methodBody=*/"", /*defaultImplementation=*/[{ return {}; }]>,
    InterfaceMethod<[{
      The extents of operands that must be equal. They become rules of the
      signature if they are those of arguments. Valid for memrefs only.
    }], "::llvm::SmallVector<::kvcache::TiedExtents>", "getTiedExtents">,
    InterfaceMethod<[{
      Whether elements of a destination may keep their values, so that it is
      read as well.
    }], "bool", "keepsDestination", (ins),
      /*methodBody=*/"", /*defaultImplementation=*/[{ return false; }]>,
    InterfaceMethod<[{
      Removes the names of dimensions, once all caches are references.
    }], "void", "dropAxisNames", (ins),
      /*methodBody=*/"", /*defaultImplementation=*/[{ return; }]>,
  ];
}

def KVCache_CachePartOpInterface : OpInterface<"CachePartOpInterface"> {
  let cppNamespace = "::kvcache";
  let description = [{
    An operation whose result is its first operand, a cache, or a part of it.
    Strides are unchanged.
  }];
  let methods = [
    InterfaceMethod<[{
      The type of the result if the operand has the facts of `known`; null if no
      type expresses it.
    }], "::kvcache::CacheType", "getPartOf", (ins "::kvcache::CacheType":$known)>,
    InterfaceMethod<[{
      Which indices of an axis the result keeps.
    }], "::kvcache::KeptIndices", "getKept", (ins "::kvcache::AxisKind":$kind),
      /*methodBody=*/"", /*defaultImplementation=*/[{
        return ::kvcache::KeptIndices::All;
      }]>,
  ];
}

def KVCache_RowStepOpInterface : OpInterface<"RowStepOpInterface"> {
  let cppNamespace = "::kvcache";
  let description = [{
    An operation that computes each head of a row from the same head of one row
    of another buffer, which may be the same one. Another operation on rows can
    follow it in registers.
  }];
  let methods = [
    InterfaceMethod<"The rows that are read.", "::mlir::Value", "getRows">,
    InterfaceMethod<"The rows that are written.", "::mlir::Value", "getOut">,
  ];
}

def KVCache_ViewCheckOpInterface : OpInterface<"ViewCheckOpInterface"> {
  let cppNamespace = "::kvcache";
  let description = [{
    An operation that checks in each call whether a cache matches a type, or has
    a part.
  }];
  let methods = [
    InterfaceMethod<"The type to check.", "::kvcache::CacheType",
      "getCheckedType">,
    InterfaceMethod<[{
      Descriptions of the checks; empty if everything is known.
    }], "::llvm::SmallVector<::std::string>", "getCallChecks">,
  ];
}

/// See CacheAccess.h.
class KVCache_Trait<string name> : NativeOpTrait<name> {
  let cppNamespace = "::kvcache";
}
def KVCache_MakesIndexValue : KVCache_Trait<"MakesIndexValue">;
def KVCache_OnlyReports : KVCache_Trait<"OnlyReports">;
def KVCache_HasRowsApart : KVCache_Trait<"HasRowsApart">;

//===----------------------------------------------------------------------===//
// Formats
//===----------------------------------------------------------------------===//

def KVCache_FormatTypeInterface : TypeInterface<"FormatTypeInterface"> {
  let cppNamespace = "::kvcache";
  let description = [{
    The element of a cache type: how its values are stored, and how they become
    f32 and back. Types of other dialects implement it through external models,
    one file each in `lib/Formats`.
  }];
  let methods = [
    InterfaceMethod<"Names, numbers and codecs.",
      "const ::kvcache::Format &", "getFormat">,
    InterfaceMethod<"The element type of a memref of stored values.",
      "::mlir::Type", "getStoredType">
  ];
}

#endif // KVCACHE_IR_INTERFACES_TD
