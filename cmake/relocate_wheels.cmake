# ROS from wheels: the imported Python targets name include folders of the machine that built them, which CMake refuses
# as non-existent. Drop those folders; with any other ROS there are none. Include after the last find_package.
get_property(_targets DIRECTORY PROPERTY IMPORTED_TARGETS)
foreach(_target ${_targets})
  if(_target MATCHES "__rosidl_generator_py$")
    get_target_property(_folders ${_target} INTERFACE_INCLUDE_DIRECTORIES)
    if(_folders)
      list(FILTER _folders EXCLUDE REGEX "^/opt/python/")
      set_target_properties(${_target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${_folders}")
    endif()
  endif()
endforeach()
