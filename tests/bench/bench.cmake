# Throughput on Google Benchmark: run build/release/tests/bench_formats by hand on a quiet machine. As a test it only
# shows that every benchmark runs.
find_package(benchmark REQUIRED)
add_executable(bench_formats bench/bench_formats.cpp)
set_target_properties(bench_formats PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
target_link_libraries(bench_formats PRIVATE quantoscope_core benchmark::benchmark)
add_test(NAME bench_formats COMMAND bench_formats --benchmark_min_time=0.001)
set_tests_properties(bench_formats PROPERTIES LABELS bench TIMEOUT 300)
