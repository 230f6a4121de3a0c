# Tests of quantoscope-cli, through the real executable.
foreach(name usage analyze numbers codec memory eval qat quantize)
  quantoscope_test(test_cli_${name} SOURCES app/cli_${name}.cpp LABELS unit)
  add_dependencies(test_cli_${name} quantoscope-cli)
endforeach()
