quantoscope_test(test_decoder SOURCES core/model/test_decoder.cpp LABELS unit LIBRARIES TBB::tbb)
