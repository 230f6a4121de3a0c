# Sources of core/analysis and core/device.
target_sources(quantoscope_core PRIVATE
  ${CMAKE_CURRENT_LIST_DIR}/bins.cpp
  ${CMAKE_CURRENT_LIST_DIR}/compare.cpp
  ${CMAKE_CURRENT_LIST_DIR}/importance.cpp
  ${CMAKE_CURRENT_LIST_DIR}/pareto.cpp
  ${CMAKE_CURRENT_LIST_DIR}/pipeline.cpp
  ${CMAKE_CURRENT_LIST_DIR}/recipe_plan.cpp
  ${CMAKE_CURRENT_LIST_DIR}/report.cpp
  ${CMAKE_CURRENT_LIST_DIR}/report_json.cpp
  ${CMAKE_CURRENT_LIST_DIR}/statistics.cpp
  ${CMAKE_CURRENT_LIST_DIR}/throughput.cpp
  ${CMAKE_CURRENT_LIST_DIR}/../device/algebra.cpp
  ${CMAKE_CURRENT_LIST_DIR}/../device/bandwidth.cpp
  ${CMAKE_CURRENT_LIST_DIR}/../device/bench.cpp
  ${CMAKE_CURRENT_LIST_DIR}/../device/cpu_algebra.cpp
  ${CMAKE_CURRENT_LIST_DIR}/../device/cpu_device.cpp
  ${CMAKE_CURRENT_LIST_DIR}/../device/cpu_features.cpp
  ${CMAKE_CURRENT_LIST_DIR}/../device/device_group.cpp
  ${CMAKE_CURRENT_LIST_DIR}/../device/discovery.cpp
  ${CMAKE_CURRENT_LIST_DIR}/../device/fallback.cpp)
