# The static library, the headers of its public interface, and the package that find_package(dask_annoy CONFIG) finds.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/dask_annoy)

install(TARGETS dask_annoy_core EXPORT dask_annoy
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dask_annoy_cpp
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES include/dask_annoy/dask_annoy.hpp
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/dask_annoy COMPONENT dask_annoy_cpp)
install(FILES core/errors.hpp core/forest_index.hpp core/metric.hpp core/span.hpp
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/dask_annoy/core COMPONENT dask_annoy_cpp)
install(EXPORT dask_annoy NAMESPACE dask_annoy:: FILE dask_annoyTargets.cmake
  DESTINATION ${package_dir} COMPONENT dask_annoy_cpp)

configure_package_config_file(cmake/dask_annoyConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/dask_annoyConfig.cmake
  INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/dask_annoyConfigVersion.cmake
  VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/dask_annoyConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/dask_annoyConfigVersion.cmake
  DESTINATION ${package_dir} COMPONENT dask_annoy_cpp)
