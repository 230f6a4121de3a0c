# Sources of core/methods.
find_package(Eigen3 3.4 REQUIRED)
target_link_libraries(quantoscope_core PRIVATE Eigen3::Eigen)
target_sources(quantoscope_core PRIVATE
  ${CMAKE_CURRENT_LIST_DIR}/activations.cpp
  ${CMAKE_CURRENT_LIST_DIR}/adamw.cpp
  ${CMAKE_CURRENT_LIST_DIR}/apply.cpp
  ${CMAKE_CURRENT_LIST_DIR}/awq.cpp
  ${CMAKE_CURRENT_LIST_DIR}/calibration.cpp
  ${CMAKE_CURRENT_LIST_DIR}/fake_quantizer.cpp
  ${CMAKE_CURRENT_LIST_DIR}/gptq.cpp
  ${CMAKE_CURRENT_LIST_DIR}/hqq.cpp
  ${CMAKE_CURRENT_LIST_DIR}/imatrix_collector.cpp
  ${CMAKE_CURRENT_LIST_DIR}/llm_int8.cpp
  ${CMAKE_CURRENT_LIST_DIR}/method_spec.cpp
  ${CMAKE_CURRENT_LIST_DIR}/qat.cpp
  ${CMAKE_CURRENT_LIST_DIR}/rounding.cpp
  ${CMAKE_CURRENT_LIST_DIR}/smoothquant.cpp)
