# Tests of gpu/. They skip, with the reason, where there is no usable GPU.
if(TARGET quantoscope-cuda)
  quantoscope_test(gpu_module SOURCES gpu/module_test.cpp LABELS gpu)
  quantoscope_test(gpu_parity SOURCES gpu/parity_test.cpp LABELS gpu slow TIMEOUT 900)
  quantoscope_test(gpu_algebra SOURCES gpu/algebra_test.cpp LABELS gpu)
  quantoscope_test(gpu_model SOURCES gpu/model_test.cpp LABELS gpu)
  quantoscope_test(gpu_graphs SOURCES gpu/graphs_test.cpp LABELS gpu LIBRARIES ${CMAKE_DL_LIBS})
  add_dependencies(gpu_graphs quantoscope-cuda)
  add_dependencies(gpu_module quantoscope-cuda)
  add_dependencies(gpu_parity quantoscope-cuda)
  add_dependencies(gpu_algebra quantoscope-cuda)
  add_dependencies(gpu_model quantoscope-cuda)

  include(${PROJECT_SOURCE_DIR}/gpu/package/package.cmake)
  quantoscope_test(gpu_package SOURCES gpu/package_test.cpp LABELS slow)
  add_test(NAME gpu_package_build COMMAND ${CMAKE_COMMAND} --build ${CMAKE_BINARY_DIR} --target gpu-package)
  set_tests_properties(gpu_package_build PROPERTIES LABELS slow FIXTURES_SETUP gpu_package)
  set_tests_properties(gpu_package PROPERTIES FIXTURES_REQUIRED gpu_package)
endif()

find_package(Boost REQUIRED COMPONENTS context)
find_package(Eigen3 REQUIRED NO_MODULE)
find_package(TBB REQUIRED)
quantoscope_test(test_column_major SOURCES gpu/column_major_test.cpp LABELS unit LIBRARIES Eigen3::Eigen)

# gpu/ on an emulated GPU, so that what the kernels compute, and how the device copes with failures, is tested
# everywhere: the CUDA runtime, cuBLAS and cuSOLVER on the host, and the module built from its own sources against them.
add_library(emulated-cuda SHARED gpu/emulated/emulated.cpp)
target_include_directories(emulated-cuda BEFORE PUBLIC gpu/emulated)
target_link_libraries(emulated-cuda PUBLIC quantoscope_options PRIVATE Boost::context)
add_library(emulated-algebra MODULE gpu/emulated_algebra/emulated_algebra.cpp)
target_include_directories(emulated-algebra PRIVATE gpu/emulated_algebra)
target_link_libraries(emulated-algebra PRIVATE emulated-cuda Eigen3::Eigen)

list(TRANSFORM QUANTOSCOPE_GPU_SOURCES PREPEND ${PROJECT_SOURCE_DIR}/gpu/ OUTPUT_VARIABLE gpu_sources)
set(cuda_sources ${gpu_sources})
list(FILTER cuda_sources INCLUDE REGEX "\\.cu$")
set_source_files_properties(${cuda_sources} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-xc++")
add_library(quantoscope-cuda-emulated MODULE ${gpu_sources})
target_include_directories(quantoscope-cuda-emulated PRIVATE gpu/emulated_algebra)
target_compile_options(quantoscope-cuda-emulated PRIVATE -Wno-unknown-pragmas)
target_compile_definitions(quantoscope-cuda-emulated PRIVATE QUANTOSCOPE_CUDA_OLDEST_ARCHITECTURE=75)
target_link_libraries(quantoscope-cuda-emulated PRIVATE emulated-cuda quantoscope_core TBB::tbb ${CMAKE_DL_LIBS})
target_link_options(quantoscope-cuda-emulated PRIVATE LINKER:--exclude-libs,ALL LINKER:--no-undefined)
# The module finds cuBLAS and cuSOLVER, by the toolkit's names, beside itself.
set(emulated_folder ${CMAKE_BINARY_DIR}/tests/emulated)
add_custom_command(TARGET emulated-algebra POST_BUILD
  COMMAND ${CMAKE_COMMAND} -E make_directory ${emulated_folder}
  COMMAND ${CMAKE_COMMAND} -E create_symlink $<TARGET_FILE:emulated-algebra> ${emulated_folder}/libcublas.so.13
  COMMAND ${CMAKE_COMMAND} -E create_symlink $<TARGET_FILE:emulated-algebra> ${emulated_folder}/libcusolver.so.12)
set_target_properties(quantoscope-cuda-emulated PROPERTIES PREFIX "" OUTPUT_NAME quantoscope-cuda
  BUILD_RPATH "$ORIGIN"
  CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/emulated)

# A test that finds the emulated module beside itself.
function(quantoscope_emulated_test name)
  quantoscope_test(${name} ${ARGN})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/emulated)
  add_dependencies(${name} quantoscope-cuda-emulated emulated-algebra)
endfunction()

quantoscope_emulated_test(gpu_emulated_parity SOURCES gpu/parity_test.cpp LABELS slow TIMEOUT 900)
quantoscope_emulated_test(gpu_emulated_graphs SOURCES gpu/graphs_test.cpp LABELS unit LIBRARIES ${CMAKE_DL_LIBS})
quantoscope_emulated_test(gpu_emulated_failures SOURCES gpu/failures_test.cpp LABELS unit)
quantoscope_emulated_test(gpu_emulated_model SOURCES gpu/model_test.cpp LABELS slow TIMEOUT 900)
quantoscope_emulated_test(gpu_emulated_model_failures SOURCES gpu/model_failures_test.cpp LABELS unit)
quantoscope_emulated_test(gpu_emulated_group SOURCES gpu/group_test.cpp LABELS unit)

quantoscope_test(gpu_emulated_algebra SOURCES gpu/algebra_emulated_test.cpp ${PROJECT_SOURCE_DIR}/gpu/algebra.cpp
  ${PROJECT_SOURCE_DIR}/gpu/algebra_libraries.cpp ${PROJECT_SOURCE_DIR}/gpu/cuda.cpp
  LABELS unit LIBRARIES emulated-cuda ${CMAKE_DL_LIBS})
target_include_directories(gpu_emulated_algebra PRIVATE gpu/emulated_algebra)
target_compile_definitions(gpu_emulated_algebra PRIVATE EMULATED_ALGEBRA="$<TARGET_FILE:emulated-algebra>")
add_dependencies(gpu_emulated_algebra emulated-algebra)
