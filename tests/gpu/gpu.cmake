# Tests of gpu/. They skip, with the reason, where there is no usable GPU.
if(TARGET quantoscope-cuda)
  quantoscope_test(gpu_module SOURCES gpu/module_test.cpp LABELS gpu)
  quantoscope_test(gpu_parity SOURCES gpu/parity_test.cpp LABELS gpu slow TIMEOUT 900)
  add_dependencies(gpu_module quantoscope-cuda)
  add_dependencies(gpu_parity quantoscope-cuda)
endif()
