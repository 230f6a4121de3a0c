quantoscope_test(test_algebra SOURCES core/device/algebra_test.cpp LABELS unit LIBRARIES TBB::tbb)
