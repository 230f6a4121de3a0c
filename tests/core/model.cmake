quantoscope_test(test_tokenizer_golden SOURCES core/model/test_tokenizer_golden.cpp LABELS unit golden)
quantoscope_test(test_tokenizer_models SOURCES core/model/test_tokenizer_models.cpp LABELS unit)
quantoscope_test(test_tokenizer_broken SOURCES core/model/test_tokenizer_broken.cpp LABELS unit)
