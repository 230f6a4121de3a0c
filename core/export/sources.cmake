# Sources of core/export.
target_sources(quantoscope_core PRIVATE
  ${CMAKE_CURRENT_LIST_DIR}/gguf_export.cpp
  ${CMAKE_CURRENT_LIST_DIR}/gguf_metadata.cpp
  ${CMAKE_CURRENT_LIST_DIR}/gguf_plan.cpp
  ${CMAKE_CURRENT_LIST_DIR}/gguf_tokenizer.cpp
  ${CMAKE_CURRENT_LIST_DIR}/stored_types.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tensor_rules.cpp)
