# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

# What an installation has besides the libraries and tools, which say so
# themselves: headers, and a package for find_package(KVCache).
include(CMakePackageConfigHelpers)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/kvcache
                  ${PROJECT_BINARY_DIR}/include/kvcache
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.h" PATTERN "*.td" PATTERN "*.h.inc"
                 PATTERN CMakeFiles EXCLUDE)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/KVCache)
configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/KVCacheConfig.cmake.in
  ${PROJECT_BINARY_DIR}/KVCacheConfig.cmake
  INSTALL_DESTINATION ${package})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/KVCacheConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/KVCacheConfig.cmake
              ${PROJECT_BINARY_DIR}/KVCacheConfigVersion.cmake
  DESTINATION ${package})
install(EXPORT KVCacheTargets NAMESPACE KVCache:: DESTINATION ${package})
