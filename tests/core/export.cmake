quantoscope_test(test_gguf_export SOURCES core/export/test_gguf_export.cpp LABELS unit)
