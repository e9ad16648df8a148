# Our own code under sanitizers: ./dev test --sanitize=address,undefined and
# ./dev fuzzers configure a build folder of their own with KVCACHE_SANITIZE.
# LLVM and MLIR come compiled and are not instrumented, and neither is the run
# time inside artefacts, which no program that loads them may have to know of:
# test/Runtime and the fuzzers compile its sources themselves.
set(KVCACHE_SANITIZE "" CACHE STRING
  "Sanitizers that our code is built with, such as address,undefined")
if(NOT KVCACHE_SANITIZE)
  return()
endif()
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "KVCACHE_SANITIZE needs clang, found "
    "${CMAKE_CXX_COMPILER_ID}")
endif()
add_compile_options(
  -fsanitize=${KVCACHE_SANITIZE}
  # The first finding ends the program: a test that goes on looks green.
  -fno-sanitize-recover=all
  # Classes of upstream are looked at whose type information may be in another
  # copy; casts of ours are checked by assertions.
  -fno-sanitize=vptr
  # What the fuzzers see of a run, so that one build serves tests and fuzzers.
  -fsanitize=fuzzer-no-link
  -fno-omit-frame-pointer
  -gline-tables-only)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
  ${CMAKE_CURRENT_LIST_DIR}/SanitizerOptions.c)
set(options ${PROJECT_BINARY_DIR}/SanitizerOptions.o)
execute_process(
  COMMAND ${CMAKE_C_COMPILER} -O1 -fPIC
    -c ${CMAKE_CURRENT_LIST_DIR}/SanitizerOptions.c -o ${options}
  COMMAND_ERROR_IS_FATAL ANY)
add_link_options(-fsanitize=${KVCACHE_SANITIZE} -fno-sanitize=vptr
  $<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:${options}>)
