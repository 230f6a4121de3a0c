# Tests of gpu/. They skip, with the reason, where there is no usable GPU.
if(TARGET quantoscope-cuda)
  quantoscope_test(gpu_module SOURCES gpu/module_test.cpp LABELS gpu)
  quantoscope_test(gpu_parity SOURCES gpu/parity_test.cpp LABELS gpu slow TIMEOUT 900)
  add_dependencies(gpu_module quantoscope-cuda)
  add_dependencies(gpu_parity quantoscope-cuda)
endif()

# The same sources on an emulated GPU (gpu/emulated), so that what the kernels compute, and how the device copes with
# failures, is tested everywhere.
find_package(Boost REQUIRED COMPONENTS context)
find_package(TBB REQUIRED)
set(emulated_sources bitsandbytes.cu convert.cu cuda.cpp device.cpp feed.cpp floating.cu format_run.cpp ggml_basic.cu
  integer.cu measure.cu microscaling.cu module.cpp statistics.cu)
list(TRANSFORM emulated_sources PREPEND ${PROJECT_SOURCE_DIR}/gpu/)
set_source_files_properties(${emulated_sources} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-xc++")
add_library(quantoscope-cuda-emulated MODULE ${emulated_sources} gpu/emulated/emulated.cpp)
target_include_directories(quantoscope-cuda-emulated BEFORE PRIVATE gpu/emulated)
target_compile_options(quantoscope-cuda-emulated PRIVATE -Wno-unknown-pragmas)
target_compile_definitions(quantoscope-cuda-emulated PRIVATE QUANTOSCOPE_CUDA_OLDEST_ARCHITECTURE=75)
target_link_libraries(quantoscope-cuda-emulated PRIVATE quantoscope_core TBB::tbb Boost::context)
target_link_options(quantoscope-cuda-emulated PRIVATE LINKER:--exclude-libs,ALL LINKER:--no-undefined)
set_target_properties(quantoscope-cuda-emulated PROPERTIES PREFIX "" OUTPUT_NAME quantoscope-cuda
  CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/emulated)

quantoscope_test(gpu_emulated_parity SOURCES gpu/parity_test.cpp LABELS slow TIMEOUT 900)
set_target_properties(gpu_emulated_parity PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/emulated)
add_dependencies(gpu_emulated_parity quantoscope-cuda-emulated)
