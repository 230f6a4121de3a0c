quantoscope_test(test_gguf_export SOURCES core/export/test_gguf_export.cpp LABELS unit)
quantoscope_test(test_gguf_tokenizer SOURCES core/export/test_gguf_tokenizer.cpp LABELS unit)
quantoscope_test(test_tensor_rules SOURCES core/export/test_tensor_rules.cpp LABELS unit)
