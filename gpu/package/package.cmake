# gpu-package: a folder, and an archive of it, that tests and measures the CUDA device on a machine that has the NVIDIA
# driver and glibc and nothing else (run.sh).
set(package_programs quantoscope-cli gpu_module gpu_parity gpu_algebra gpu_model)

# The old kind of run path: it holds for the libraries of libraries and for the module too.
foreach(program ${package_programs})
  set_property(TARGET ${program} APPEND PROPERTY BUILD_RPATH "$ORIGIN/../lib")
  target_link_options(${program} PRIVATE LINKER:--disable-new-dtags)
endforeach()

set(package_files ${package_programs} quantoscope-cuda)
list(TRANSFORM package_files REPLACE "(.+)" "$<TARGET_FILE:\\1>")
file(GLOB package_inputs CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/golden/input/*.f32)
set(package_models ${PROJECT_SOURCE_DIR}/tests/core/model/data)
add_custom_command(OUTPUT ${CMAKE_BINARY_DIR}/gpu-package.tar.gz
  COMMAND ${CMAKE_COMMAND}
    "-DFOLDER=${CMAKE_BINARY_DIR}/gpu-package"
    "-DFILES=${package_files}"
    "-DINPUTS=${package_inputs}"
    "-DMODELS=${package_models}"
    "-DSCRIPT=${CMAKE_CURRENT_LIST_DIR}/run.sh"
    "-DSTRIP=${CMAKE_STRIP}"
    -P ${CMAKE_CURRENT_LIST_DIR}/collect.cmake
  DEPENDS ${package_programs} quantoscope-cuda ${package_inputs} ${CMAKE_CURRENT_LIST_DIR}/run.sh
    ${CMAKE_CURRENT_LIST_DIR}/collect.cmake
  COMMENT "Collecting gpu-package"
  VERBATIM)
add_custom_target(gpu-package DEPENDS ${CMAKE_BINARY_DIR}/gpu-package.tar.gz)
