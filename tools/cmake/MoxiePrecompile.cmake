# SPDX-License-Identifier: Apache-2.0
# Precompiled headers: about a third of a clean build went into reading the same headers again. Only the standard
# library's, fmt's and, for the tests, what nearly all of them include, so that a change rebuilds no more than before.
# They hide an include that is missing: the preset without them (clang) finds it.
set(moxie_common_headers <fmt/format.h> <algorithm> <array> <cmath> <functional> <memory> <span> <string> <vector>)

# The first target compiles them; others with the same flags take over its.
function(moxie_precompile target)
  if(MOXIE_PCH)
    target_precompile_headers(${target} PRIVATE ${ARGN})
  endif()
endfunction()

function(moxie_precompile_as other target)
  if(MOXIE_PCH)
    target_precompile_headers(${target} REUSE_FROM ${other})
  endif()
endfunction()
