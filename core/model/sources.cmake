# Sources of core/model.
find_package(Eigen3 3.4 REQUIRED NO_MODULE)
target_link_libraries(quantoscope_core PUBLIC Eigen3::Eigen)
target_sources(quantoscope_core PRIVATE
  ${CMAKE_CURRENT_LIST_DIR}/backward.cpp
  ${CMAKE_CURRENT_LIST_DIR}/calibrated_layers.cpp
  ${CMAKE_CURRENT_LIST_DIR}/collect_imatrix.cpp
  ${CMAKE_CURRENT_LIST_DIR}/config.cpp
  ${CMAKE_CURRENT_LIST_DIR}/continuations.cpp
  ${CMAKE_CURRENT_LIST_DIR}/decoder.cpp
  ${CMAKE_CURRENT_LIST_DIR}/device_machine.cpp
  ${CMAKE_CURRENT_LIST_DIR}/device_text.cpp
  ${CMAKE_CURRENT_LIST_DIR}/evaluation.cpp
  ${CMAKE_CURRENT_LIST_DIR}/evaluation_state.cpp
  ${CMAKE_CURRENT_LIST_DIR}/generation.cpp
  ${CMAKE_CURRENT_LIST_DIR}/layer.cpp
  ${CMAKE_CURRENT_LIST_DIR}/layer_runner.cpp
  ${CMAKE_CURRENT_LIST_DIR}/product.cpp
  ${CMAKE_CURRENT_LIST_DIR}/quantized_weights.cpp
  ${CMAKE_CURRENT_LIST_DIR}/rope.cpp
  ${CMAKE_CURRENT_LIST_DIR}/scores.cpp
  ${CMAKE_CURRENT_LIST_DIR}/skills.cpp
  ${CMAKE_CURRENT_LIST_DIR}/text_windows.cpp
  ${CMAKE_CURRENT_LIST_DIR}/variant.cpp
  ${CMAKE_CURRENT_LIST_DIR}/variants.cpp
  ${CMAKE_CURRENT_LIST_DIR}/weights.cpp
  ${CMAKE_CURRENT_LIST_DIR}/windows.cpp)
