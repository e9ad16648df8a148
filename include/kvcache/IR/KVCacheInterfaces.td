// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What operations and formats say of themselves. The types are explained in
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
    batches that name them. What passes, signatures and reports do with such an
    operation follows from what is said here.
  }];
  let methods = [
    InterfaceMethod<[{
      The caches of which elements are read or written, in the sequence of
      operands.
    }], "::llvm::SmallVector<::kvcache::CacheUse>", "getCacheUses", (ins),
      /*methodBody=*/"", /*defaultImplementation=*/[{ return {}; }]>,
    InterfaceMethod<[{
      The numbers that are taken from lists and batches, and what they have to
      be below. `kvcache-insert-checks` makes checks of them.
    }], "::kvcache::IndexUses", "getIndexUses", (ins),
      /*methodBody=*/"", /*defaultImplementation=*/[{ return {}; }]>,
    InterfaceMethod<[{
      The extents of operands that are one number. They become rules of the
      signature where they are those of arguments. Valid of memrefs only.
    }], "::llvm::SmallVector<::kvcache::TiedExtents>", "getTiedExtents">,
    InterfaceMethod<[{
      Whether elements of a destination may stay what they were, so that it is
      read as well.
    }], "bool", "keepsDestination", (ins),
      /*methodBody=*/"", /*defaultImplementation=*/[{ return false; }]>,
    InterfaceMethod<[{
      Takes away the names of dimensions, after all caches have become
      references.
    }], "void", "dropAxisNames", (ins),
      /*methodBody=*/"", /*defaultImplementation=*/[{ return; }]>,
  ];
}

def KVCache_CachePartOpInterface : OpInterface<"CachePartOpInterface"> {
  let cppNamespace = "::kvcache";
  let description = [{
    An operation whose result is the cache that its first operand is, or a part
    of it. Strides stay what they are.
  }];
  let methods = [
    InterfaceMethod<[{
      The type of the result where `known` is known of the operand; null if no
      type says it.
    }], "::kvcache::CacheType", "getPartOf", (ins "::kvcache::CacheType":$known)>,
    InterfaceMethod<[{
      What the result has of the indices of an axis.
    }], "::kvcache::KeptExtent", "getKept", (ins "::kvcache::AxisKind":$kind),
      /*methodBody=*/"", /*defaultImplementation=*/[{
        return ::kvcache::KeptExtent::All;
      }]>,
  ];
}

def KVCache_ViewCheckOpInterface : OpInterface<"ViewCheckOpInterface"> {
  let cppNamespace = "::kvcache";
  let description = [{
    An operation that finds out in each call whether a cache is what a type
    says, or has a part.
  }];
  let methods = [
    InterfaceMethod<"The type.", "::kvcache::CacheType", "getCheckedType">,
    InterfaceMethod<[{
      What is looked at, in words; nothing if all of it is known.
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
    What stands in the element position of a cache type: how its numbers are
    stored. Types of other dialects have it from `lib/IR/Formats.cpp`.
  }];
  let methods = [
    InterfaceMethod<"The bits of a stored number.",
      "int64_t", "getStoredBits">,
    InterfaceMethod<"The element type of a memref of stored numbers.",
      "::mlir::Type", "getStoredType">
  ];
}

#endif // KVCACHE_IR_INTERFACES_TD
