# SPDX-License-Identifier: Apache-2.0
# Compiler flags of moxie's own sources; none of them reach a project that links moxie.
add_library(moxie_flags INTERFACE)
target_compile_options(moxie_flags INTERFACE
  -Wall -Wextra -Wshadow -Wconversion
  # clang reports std::stable_sort's own use of a deprecated function
  $<$<CXX_COMPILER_ID:Clang>:-Wno-deprecated-declarations>
  $<$<BOOL:${MOXIE_WERROR}>:-Werror>
  # Faster without giving up what NaN and Inf mean; never -ffast-math.
  -fno-math-errno -fno-trapping-math
  # a * b + c may be one instruction
  -ffp-contract=fast
  $<$<BOOL:${MOXIE_NATIVE}>:-march=native>
  $<$<NOT:$<BOOL:${MOXIE_OPENMP}>>:-fopenmp-simd>)

# Programs and tests spend their time in the library; what they hold themselves need not be fast, but should compile fast.
add_library(moxie_program_flags INTERFACE)
target_link_libraries(moxie_program_flags INTERFACE moxie_flags)
target_compile_options(moxie_program_flags INTERFACE $<$<CONFIG:Release>:-O1>)
