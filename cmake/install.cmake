# What a consumer outside the tree needs: archive, header, pkg-config file, CMake package.

include(CMakePackageConfigHelpers)

install(TARGETS guestram EXPORT guestramTargets
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

# Relative to where the file lies, so that `cmake --install --prefix` and a moved tree both work.
file(RELATIVE_PATH PREFIX_FROM_PKGCONFIG
    /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
string(REGEX REPLACE "/$" "" PREFIX_FROM_PKGCONFIG ${PREFIX_FROM_PKGCONFIG})
configure_file(cmake/guestram.pc.in guestram.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/guestram.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/guestram)
install(EXPORT guestramTargets NAMESPACE guestram:: DESTINATION ${package}
    FILE guestramConfig.cmake)
write_basic_package_version_file(guestramConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/guestramConfigVersion.cmake DESTINATION ${package})
