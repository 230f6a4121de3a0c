foreach(name product decoder generation evaluation calibrated_layers variants)
  quantoscope_test(test_${name} SOURCES core/model/test_${name}.cpp LABELS unit LIBRARIES TBB::tbb)
endforeach()
