# SPDX-License-Identifier: Apache-2.0
# Compiler flags of moxie's own sources; none of them reach a project that links moxie.
add_library(moxie_flags INTERFACE)
set(moxie_cxx_flags
  -Wall -Wextra -Wshadow -Wconversion
  # clang reports std::stable_sort's own use of a deprecated function, and each "omp simd" that it leaves a plain loop,
  # which depends on the processor
  $<$<CXX_COMPILER_ID:Clang>:-Wno-deprecated-declarations -Wno-pass-failed>
  $<$<BOOL:${MOXIE_WERROR}>:-Werror>
  # Faster without giving up what NaN and Inf mean; never -ffast-math.
  -fno-math-errno -fno-trapping-math
  # a * b + c may be one instruction
  -ffp-contract=fast
  $<$<BOOL:${MOXIE_NATIVE}>:-march=native>
  $<$<NOT:$<BOOL:${MOXIE_OPENMP}>>:-fopenmp-simd>)
# std::bit_cast and std::numeric_limits are constexpr, which makes them callable on the device
set(moxie_cuda_flags
  --expt-relaxed-constexpr
  # f32 quotients within 2 units in the last place and square roots within 1: the exact ones branch, and a thread then
  # waits for memory once for every element and not once for several
  --prec-div=false --prec-sqrt=false
  -Xcompiler=-Wall,-Wextra,-Wno-unknown-pragmas
  $<$<BOOL:${MOXIE_PTXAS_VERBOSE}>:-Xptxas=-v>
  $<$<BOOL:${MOXIE_WERROR}>:-Werror=all-warnings>)
target_compile_options(moxie_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${moxie_cxx_flags}>"
                                             "$<$<COMPILE_LANGUAGE:CUDA>:${moxie_cuda_flags}>")

# Programs and tests spend their time in the library; what they hold themselves need not be fast, but should compile fast.
add_library(moxie_program_flags INTERFACE)
target_link_libraries(moxie_program_flags INTERFACE moxie_flags)
target_compile_options(moxie_program_flags INTERFACE $<$<AND:$<CONFIG:Release>,$<COMPILE_LANGUAGE:CXX>>:-O1>)
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=")
  # A sanitizer's checks take twice as long to compile with any optimisation.
  target_compile_options(moxie_program_flags INTERFACE -O0)
endif()
