# Throughput on Google Benchmark: run build/release/tests/bench_formats by hand on a quiet machine. As a test it only
# shows that every benchmark runs.
find_package(benchmark REQUIRED)
add_executable(bench_formats bench/bench_formats.cpp)
set_target_properties(bench_formats PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
target_link_libraries(bench_formats PRIVATE quantoscope_core benchmark::benchmark)
add_test(NAME bench_formats COMMAND bench_formats --benchmark_min_time=0.001)
set_tests_properties(bench_formats PROPERTIES LABELS bench TIMEOUT 300)

# ggml's quantizers and ours side by side, where QUANTOSCOPE_BENCH_GGML names a checkout of ggml. It is built with its
# own default flags; only OpenMP, which its quantizers do not use, is left out.
set(QUANTOSCOPE_BENCH_GGML "" CACHE PATH "A checkout of ggml to compare with in bench_ggml")

function(add_ggml)
  set(BUILD_SHARED_LIBS ON)
  set(CMAKE_CXX_EXTENSIONS ON)
  set(GGML_NATIVE ON)
  set(GGML_OPENMP OFF)
  add_subdirectory(${QUANTOSCOPE_BENCH_GGML} ${CMAKE_BINARY_DIR}/ggml EXCLUDE_FROM_ALL)
endfunction()

if(QUANTOSCOPE_BENCH_GGML)
  find_package(CLI11 REQUIRED)
  find_package(TBB REQUIRED)
  find_package(hwy REQUIRED)
  add_ggml()
  add_executable(bench_ggml bench/bench_ggml.cpp)
  set_target_properties(bench_ggml PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(bench_ggml PRIVATE quantoscope_core ggml-base ggml-cpu CLI11::CLI11 TBB::tbb hwy::hwy)
endif()
