quantoscope_test(test_gguf_export SOURCES core/export/test_gguf_export.cpp LABELS unit)
quantoscope_test(test_huggingface SOURCES core/export/test_huggingface.cpp LABELS unit LIBRARIES TBB::tbb)
quantoscope_test(test_packing SOURCES core/export/test_packing.cpp LABELS unit golden)
