# Sources of core/export.
target_sources(quantoscope_core PRIVATE
  ${CMAKE_CURRENT_LIST_DIR}/awq_layout.cpp
  ${CMAKE_CURRENT_LIST_DIR}/bitsandbytes_layout.cpp
  ${CMAKE_CURRENT_LIST_DIR}/companions.cpp
  ${CMAKE_CURRENT_LIST_DIR}/compressed_tensors_layout.cpp
  ${CMAKE_CURRENT_LIST_DIR}/float_tensor.cpp
  ${CMAKE_CURRENT_LIST_DIR}/fold_smoothing.cpp
  ${CMAKE_CURRENT_LIST_DIR}/gguf_export.cpp
  ${CMAKE_CURRENT_LIST_DIR}/gguf_metadata.cpp
  ${CMAKE_CURRENT_LIST_DIR}/gguf_plan.cpp
  ${CMAKE_CURRENT_LIST_DIR}/gguf_tokenizer.cpp
  ${CMAKE_CURRENT_LIST_DIR}/gptq_layout.cpp
  ${CMAKE_CURRENT_LIST_DIR}/hqq_layout.cpp
  ${CMAKE_CURRENT_LIST_DIR}/huggingface_export.cpp
  ${CMAKE_CURRENT_LIST_DIR}/integer_grid.cpp
  ${CMAKE_CURRENT_LIST_DIR}/layout.cpp
  ${CMAKE_CURRENT_LIST_DIR}/packing.cpp
  ${CMAKE_CURRENT_LIST_DIR}/safetensors_file.cpp
  ${CMAKE_CURRENT_LIST_DIR}/stored_types.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tensor_rules.cpp
  ${CMAKE_CURRENT_LIST_DIR}/write_trained.cpp)
