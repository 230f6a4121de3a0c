# Makes FOLDER and FOLDER.tar.gz of FILES (programs and modules), the libraries that they need, INPUTS, the folder MODELS
# and SCRIPT.
file(REMOVE_RECURSE ${FOLDER})
file(INSTALL ${SCRIPT} DESTINATION ${FOLDER} USE_SOURCE_PERMISSIONS)
file(INSTALL ${INPUTS} DESTINATION ${FOLDER}/golden/input)
file(INSTALL ${MODELS}/ DESTINATION ${FOLDER}/models)
foreach(file ${FILES})
  file(INSTALL ${file} DESTINATION ${FOLDER}/bin USE_SOURCE_PERMISSIONS)
  get_filename_component(name ${file} NAME)
  execute_process(COMMAND ${STRIP} ${FOLDER}/bin/${name} COMMAND_ERROR_IS_FATAL ANY)
  if(NOT name MATCHES "\\.so$")
    # In place of the build's, which ends in the empty path that stands for the working directory.
    file(RPATH_SET FILE ${FOLDER}/bin/${name} NEW_RPATH "$ORIGIN/../lib")
  endif()
endforeach()

# All but the parts of glibc, which must fit the machine's own loader and driver.
file(GET_RUNTIME_DEPENDENCIES
  EXECUTABLES ${FILES}
  RESOLVED_DEPENDENCIES_VAR libraries
  PRE_EXCLUDE_REGEXES "^ld-linux" "^lib(c|m|dl|rt|pthread|resolv|util)\\.so\\.")
file(MAKE_DIRECTORY ${FOLDER}/lib)
foreach(library ${libraries})
  get_filename_component(name ${library} NAME)
  file(COPY_FILE ${library} ${FOLDER}/lib/${name})
endforeach()

get_filename_component(parent ${FOLDER} DIRECTORY)
get_filename_component(name ${FOLDER} NAME)
execute_process(COMMAND ${CMAKE_COMMAND} -E tar czf ${name}.tar.gz ${name} WORKING_DIRECTORY ${parent}
  COMMAND_ERROR_IS_FATAL ANY)
