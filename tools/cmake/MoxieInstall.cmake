# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` lays down: the library, its headers below include/moxie/ in the project's folders, and what
# find_package(moxie) and pkg-config read. docs/library.md tells how to use it.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/moxie)

install(TARGETS moxie EXPORT moxieTargets FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/moxie)
install(EXPORT moxieTargets NAMESPACE moxie:: DESTINATION ${package_folder})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/moxieConfig.cmake.in ${PROJECT_BINARY_DIR}/moxieConfig.cmake
                              INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/moxieConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/moxieConfig.cmake ${PROJECT_BINARY_DIR}/moxieConfigVersion.cmake
              ${CMAKE_CURRENT_LIST_DIR}/MoxieOneDnn.cmake DESTINATION ${package_folder})

# pkg-config has no way to say what only a static library needs, so everything stands in Libs.
set(pkgconfig_flags)
set(pkgconfig_libraries)
if(MOXIE_ONEDNN)
  cmake_path(GET DNNL_LIBRARY PARENT_PATH folder)
  if(NOT folder IN_LIST CMAKE_CXX_IMPLICIT_LINK_DIRECTORIES)
    string(APPEND pkgconfig_libraries " -L${folder}")
  endif()
  string(APPEND pkgconfig_libraries " -ldnnl")
endif()
if(MOXIE_OPENMP)
  string(APPEND pkgconfig_flags " ${OpenMP_CXX_FLAGS}")
  string(APPEND pkgconfig_libraries " ${OpenMP_CXX_FLAGS}")
endif()
# Relative to the .pc file, so that the installed tree may move.
cmake_path(RELATIVE_PATH CMAKE_INSTALL_FULL_INCLUDEDIR BASE_DIRECTORY ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig
           OUTPUT_VARIABLE pkgconfig_include)
configure_file(${CMAKE_CURRENT_LIST_DIR}/moxie.pc.in ${PROJECT_BINARY_DIR}/moxie.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/moxie.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
