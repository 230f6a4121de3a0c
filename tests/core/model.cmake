foreach(name product decoder backward generation evaluation variants)
  quantoscope_test(test_${name} SOURCES core/model/test_${name}.cpp LABELS unit LIBRARIES TBB::tbb)
endforeach()
