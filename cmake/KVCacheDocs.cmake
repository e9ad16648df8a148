# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

# docs/reference is generated, and committed, as it is read where nothing is
# built. test/Tools/reference-docs.py tells when it is out of date.
set(KVCACHE_WRITE_REFERENCE ${PROJECT_BINARY_DIR}/WriteReference.cmake)
configure_file(${CMAKE_CURRENT_LIST_DIR}/WriteReference.cmake.in
               ${KVCACHE_WRITE_REFERENCE} @ONLY)
add_custom_target(kvcache-docs
  COMMAND ${CMAKE_COMMAND} -D OUT=${PROJECT_SOURCE_DIR}/docs/reference
          -P ${KVCACHE_WRITE_REFERENCE}
  DEPENDS kv-opt
  VERBATIM)
