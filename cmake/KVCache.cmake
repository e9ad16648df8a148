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
  set_property(GLOBAL APPEND PROPERTY KVCACHE_LIBRARIES ${name})
endfunction()
