# libFuzzer targets of the header parsers, built with clang beside the rest, and run for a minute each.
# The parsers alone are compiled, so that this takes seconds.
find_program(QUANTOSCOPE_FUZZ_COMPILER NAMES clang++ clang++-19 clang++-18 clang++-17 clang++-16 clang++-15 clang++-14)
set(QUANTOSCOPE_FUZZ_SECONDS 60 CACHE STRING "Seconds that each fuzz target runs as a test")

if(NOT QUANTOSCOPE_FUZZ)
  return()
endif()
if(NOT QUANTOSCOPE_FUZZ_COMPILER)
  message(WARNING "No clang++: the fuzz targets are not built")
  return()
endif()

set(fuzz_sources
  ${PROJECT_SOURCE_DIR}/core/base/mapped_file.cpp
  ${PROJECT_SOURCE_DIR}/core/checkpoint/checkpoint.cpp
  ${PROJECT_SOURCE_DIR}/core/checkpoint/gguf.cpp
  ${PROJECT_SOURCE_DIR}/core/checkpoint/gguf_parts.cpp
  ${PROJECT_SOURCE_DIR}/core/checkpoint/huggingface.cpp
  ${PROJECT_SOURCE_DIR}/core/checkpoint/open.cpp
  ${PROJECT_SOURCE_DIR}/core/checkpoint/recognise.cpp
  ${PROJECT_SOURCE_DIR}/core/checkpoint/roles.cpp
  ${PROJECT_SOURCE_DIR}/core/checkpoint/safetensors.cpp
  ${PROJECT_SOURCE_DIR}/core/checkpoint/text.cpp)
set(fuzz_flags -std=c++20 -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined)
set(fuzz_objects)
foreach(source IN LISTS fuzz_sources)
  get_filename_component(name ${source} NAME_WE)
  set(object ${CMAKE_BINARY_DIR}/fuzz/${name}.o)
  add_custom_command(OUTPUT ${object}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/fuzz
    COMMAND ${QUANTOSCOPE_FUZZ_COMPILER} ${fuzz_flags} -I${PROJECT_SOURCE_DIR} -MD -MF ${object}.d -c ${source} -o ${object}
    DEPENDS ${source} DEPFILE ${object}.d VERBATIM)
  list(APPEND fuzz_objects ${object})
endforeach()

foreach(target safetensors gguf)
  set(program ${CMAKE_BINARY_DIR}/fuzz/fuzz_${target})
  set(source ${CMAKE_CURRENT_LIST_DIR}/fuzz_${target}.cpp)
  add_custom_command(OUTPUT ${program}
    COMMAND ${QUANTOSCOPE_FUZZ_COMPILER} ${fuzz_flags} -fsanitize=fuzzer -I${PROJECT_SOURCE_DIR} ${source}
      ${fuzz_objects} -lfmt -ltbb -o ${program}
    DEPENDS ${source} ${CMAKE_CURRENT_LIST_DIR}/open_bytes.h ${fuzz_objects} VERBATIM)
  add_custom_target(fuzz_${target} ALL DEPENDS ${program})
  # Starts from the seeds; what it finds new goes into the build folder.
  add_test(NAME fuzz_${target} COMMAND ${CMAKE_CURRENT_LIST_DIR}/run_fuzz.sh ${program}
    ${CMAKE_BINARY_DIR}/fuzz/corpus_${target} ${CMAKE_CURRENT_LIST_DIR}/seeds_${target} ${QUANTOSCOPE_FUZZ_SECONDS})
  set_tests_properties(fuzz_${target} PROPERTIES LABELS fuzz TIMEOUT 300)
endforeach()
