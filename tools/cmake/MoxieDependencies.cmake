# SPDX-License-Identifier: Apache-2.0
# Finds what moxie builds on. Nothing is downloaded; a missing package is named with its apt line.
function(moxie_require target package apt)
  if(NOT TARGET ${target})
    message(FATAL_ERROR "moxie needs ${package}. On Debian or Ubuntu: apt-get install ${apt}   (or run tools/setup.sh)")
  endif()
endfunction()

# Also for a project that takes moxie in by add_subdirectory: its own folder must see what moxie links.
set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)

find_package(fmt QUIET)
moxie_require(fmt::fmt fmt libfmt-dev)

find_package(nlohmann_json QUIET)
moxie_require(nlohmann_json::nlohmann_json nlohmann-json nlohmann-json3-dev)

find_path(STB_INCLUDE_DIR stb_image_write.h PATH_SUFFIXES stb)
if(STB_INCLUDE_DIR)
  add_library(stb::stb INTERFACE IMPORTED GLOBAL)
  target_include_directories(stb::stb SYSTEM INTERFACE ${STB_INCLUDE_DIR})
endif()
moxie_require(stb::stb "stb (stb_image_write.h)" libstb-dev)

if(MOXIE_OPENMP)
  find_package(OpenMP QUIET COMPONENTS CXX)
  moxie_require(OpenMP::OpenMP_CXX OpenMP g++)
endif()
if(MOXIE_ONEDNN)
  include(MoxieOneDnn)
  moxie_require(DNNL::dnnl oneDNN libdnnl-dev)
endif()
if(MOXIE_EXAMPLES OR MOXIE_BENCH)
  find_package(CLI11 QUIET)
  moxie_require(CLI11::CLI11 CLI11 libcli11-dev)
endif()
if(MOXIE_TESTS)
  find_package(doctest QUIET)
  moxie_require(doctest::doctest doctest doctest-dev)
endif()
find_package(Threads REQUIRED)
