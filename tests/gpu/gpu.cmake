# Tests of gpu/. They skip, with the reason, where there is no usable GPU.
if(TARGET quantoscope-cuda)
  quantoscope_test(gpu_module SOURCES gpu/module_test.cpp LABELS gpu)
  quantoscope_test(gpu_parity SOURCES gpu/parity_test.cpp LABELS gpu slow TIMEOUT 900)
  add_dependencies(gpu_module quantoscope-cuda)
  quantoscope_test(gpu_algebra SOURCES gpu/algebra_test.cpp LABELS gpu)
  add_dependencies(gpu_parity quantoscope-cuda)
  add_dependencies(gpu_algebra quantoscope-cuda)
endif()

# The algebra where there is no GPU: the way from row-major to column-major, and gpu/algebra.cpp itself with libraries in
# place of the CUDA runtime, cuBLAS and cuSOLVER that compute on the host.
find_package(Eigen3 REQUIRED NO_MODULE)
quantoscope_test(test_column_major SOURCES gpu/column_major_test.cpp LABELS unit LIBRARIES Eigen3::Eigen)

add_library(emulated-runtime SHARED gpu/runtime_stand_in/runtime_stand_in.cpp)
target_include_directories(emulated-runtime PUBLIC gpu/runtime_stand_in)
target_link_libraries(emulated-runtime PUBLIC quantoscope_options)
add_library(emulated-algebra MODULE gpu/emulated_algebra/emulated_algebra.cpp)
target_include_directories(emulated-algebra PRIVATE gpu/emulated_algebra)
target_link_libraries(emulated-algebra PRIVATE emulated-runtime Eigen3::Eigen)

quantoscope_test(test_algebra_emulated SOURCES gpu/algebra_emulated_test.cpp ${PROJECT_SOURCE_DIR}/gpu/algebra.cpp
  ${PROJECT_SOURCE_DIR}/gpu/algebra_libraries.cpp ${PROJECT_SOURCE_DIR}/gpu/cuda.cpp
  LABELS unit LIBRARIES emulated-runtime ${CMAKE_DL_LIBS})
target_include_directories(test_algebra_emulated PRIVATE gpu/emulated_algebra)
target_compile_definitions(test_algebra_emulated PRIVATE EMULATED_ALGEBRA="$<TARGET_FILE:emulated-algebra>")
add_dependencies(test_algebra_emulated emulated-algebra)
