# Configures, builds and runs the consumer from nothing, with ssm had in the way SSM_WAY. The library
# of an installed ssm::compiled is COMPILED, which was compiled with FLAGS from the same sources; cuda
# is the package of SSM_BINARY, where ssm::cuda has been built.

file(REMOVE_RECURSE ${WORK})

function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

if(SSM_WAY STREQUAL "find_package")
  run(${CMAKE_COMMAND} -S ${SSM_SOURCE} -B ${WORK}/ssm -G ${GENERATOR} -DCMAKE_BUILD_TYPE=Release
      -DCMAKE_CXX_COMPILER=${COMPILER} -DSSM_COMPILED=ON -DSSM_BUILD_TESTS=OFF -DSSM_BUILD_BENCH=OFF
      -DSSM_BUILD_EXAMPLES=OFF)
  cmake_path(GET COMPILED FILENAME library)
  string(REPLACE "own_" "" library ${library})
  file(COPY_FILE ${COMPILED} ${WORK}/ssm/${library})
  run(${CMAKE_COMMAND} --install ${WORK}/ssm --prefix ${WORK}/prefix)
  set(where -DCMAKE_PREFIX_PATH=${WORK}/prefix -DCMAKE_CXX_FLAGS=${FLAGS})
elseif(SSM_WAY STREQUAL "cuda")
  run(${CMAKE_COMMAND} --install ${SSM_BINARY} --prefix ${WORK}/prefix)
  set(where -DCMAKE_PREFIX_PATH=${WORK}/prefix)
else()
  set(where -DSSM_SOURCE=${SSM_SOURCE})
endif()

run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/consumer -B ${WORK}/build -G ${GENERATOR}
    -DCMAKE_CXX_COMPILER=${COMPILER} -DSSM_WAY=${SSM_WAY} ${where})
if(SSM_WAY STREQUAL "add_subdirectory") # ssm::compiled is there; building it once will do
  run(${CMAKE_COMMAND} --build ${WORK}/build --target consumer consumer_io)
else()
  run(${CMAKE_COMMAND} --build ${WORK}/build)
endif()
run(${WORK}/build/consumer)
if(SSM_WAY STREQUAL "find_package")
  run(${WORK}/build/consumer_compiled)
endif()
if(SSM_WAY STREQUAL "cuda")
  run(${WORK}/build/consumer_cuda)
endif()
