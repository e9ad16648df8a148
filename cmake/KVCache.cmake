include(GNUInstallDirs)

# A library of the project: an archive that is compiled once, as position
# independent code, and is linked into the tools and into the plugin.
#
#   kv_add_library(KVCacheIR SOURCES a.cpp b.cpp DEPENDS IncGen LINK MLIRIR)
#
# PCH names the library whose precompiled header is used, or SELF.
function(kv_add_library name)
  cmake_parse_arguments(ARG "" "PCH" "SOURCES;DEPENDS;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  if(ARG_DEPENDS)
    add_dependencies(${name} ${ARG_DEPENDS})
  endif()
  target_link_libraries(${name} PUBLIC ${ARG_LINK})
  target_compile_features(${name} PUBLIC cxx_std_17)
  target_include_directories(${name} INTERFACE
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  install(TARGETS ${name} EXPORT KVCacheTargets)
  set_property(GLOBAL APPEND PROPERTY KVCACHE_LIBRARIES ${name})
endfunction()

# A program that is installed.
#
#   kv_add_tool(kv-opt SOURCES kv-opt.cpp LINK KVCacheRegistration)
function(kv_add_tool name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK})
  # Where LLVM's shared library is, if the system does not look there.
  set_target_properties(${name} PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
  install(TARGETS ${name})
endfunction()

# The archives that some libraries consist of: the libraries and all that they
# link, without shared ones.
function(kv_archives_of result)
  set(waiting ${ARGN})
  set(found)
  while(NOT waiting STREQUAL "")
    list(POP_FRONT waiting name)
    if(NOT TARGET ${name} OR ${name} IN_LIST found)
      continue()
    endif()
    get_target_property(type ${name} TYPE)
    if(NOT type STREQUAL STATIC_LIBRARY)
      continue()
    endif()
    list(APPEND found ${name})
    get_target_property(links ${name} INTERFACE_LINK_LIBRARIES)
    # What an archive needs privately is listed as $<LINK_ONLY:...>.
    list(TRANSFORM links REPLACE "\\$<LINK_ONLY:(.*)>" "\\1")
    list(APPEND waiting ${links})
  endwhile()
  set(${result} ${found} PARENT_SCOPE)
endfunction()
