# libguestram.a: the Swift module and its C part, as one object in which only guestram_* is global.

find_program(GUESTRAM_SWIFTC swiftc PATHS /opt/swift/usr/bin
    DOC "Swift 6.3 or newer, with the embedded standard library" REQUIRED)
# The compiler leaves directories behind in TMPDIR.
set(swift_scratch ${PROJECT_BINARY_DIR}/swift-scratch)
set(swiftc ${CMAKE_COMMAND} -E env TMPDIR=${swift_scratch} ${GUESTRAM_SWIFTC})
file(MAKE_DIRECTORY ${swift_scratch})
execute_process(COMMAND ${swiftc} --version OUTPUT_VARIABLE swift ERROR_QUIET)
if(NOT swift MATCHES "Swift version ([0-9.]+)" OR CMAKE_MATCH_1 VERSION_LESS 6.3)
    message(FATAL_ERROR "${GUESTRAM_SWIFTC} is not Swift 6.3 or newer: ${swift}")
endif()
# GNU's, whatever the compiler is: LLVM's linker does not know --gc-keep-exported.
find_program(GUESTRAM_LD ld.bfd REQUIRED)
find_program(GUESTRAM_OBJCOPY objcopy REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(GUESTRAM_DEPENDENCIES REQUIRED libseccomp libcap)

file(GLOB_RECURSE swift_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/Sources/GuestRAM/*.swift)
file(GLOB c_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/Sources/CLinux/include/*)
if(NOT swift_sources)
    message(FATAL_ERROR "Sources/GuestRAM holds no Swift files")
endif()

set(swift_object ${PROJECT_BINARY_DIR}/GuestRAM.o)
add_custom_command(
    OUTPUT ${swift_object}
    COMMAND ${swiftc} -c -o ${swift_object} -module-name GuestRAM
        -enable-experimental-feature Embedded -wmo -parse-as-library -swift-version 6 -O
        "$<$<CONFIG:Debug,RelWithDebInfo>:-g>"
        -enforce-exclusivity=unchecked -Xfrontend -function-sections
        -module-cache-path ${PROJECT_BINARY_DIR}/swift-modules
        -I ${PROJECT_SOURCE_DIR}/Sources/CLinux/include
        ${swift_sources}
    DEPENDS ${swift_sources} ${c_headers} ${PROJECT_SOURCE_DIR}/include/guestram.h
    COMMENT "Compiling GuestRAM (Embedded Swift)"
    COMMAND_EXPAND_LISTS VERBATIM)

add_library(CLinux OBJECT ${PROJECT_SOURCE_DIR}/Sources/CLinux/CLinux.c)
set_target_properties(CLinux PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_include_directories(CLinux PRIVATE ${PROJECT_SOURCE_DIR}/Sources/CLinux/include)
target_compile_options(CLinux PRIVATE -ffunction-sections -fdata-sections)

# An embedded object defines swift_* and mangled symbols, which would clash with those of a VMM that
# holds Swift itself: all but guestram_* becomes local, and then what nothing reaches is dropped.
set(object ${PROJECT_BINARY_DIR}/libguestram.o)
add_custom_command(
    OUTPUT ${object}
    COMMAND ${GUESTRAM_LD} -r --force-group-allocation -o ${object}.all
        ${swift_object} $<TARGET_OBJECTS:CLinux>
    COMMAND ${GUESTRAM_OBJCOPY} -w --keep-global-symbol=guestram_* ${object}.all
    COMMAND ${GUESTRAM_LD} -r --gc-sections --gc-keep-exported -o ${object} ${object}.all
    DEPENDS ${swift_object} $<TARGET_OBJECTS:CLinux>
    COMMENT "Joining libguestram.o"
    COMMAND_EXPAND_LISTS VERBATIM)

add_library(guestram STATIC ${object})
add_library(guestram::guestram ALIAS guestram)
set_target_properties(guestram PROPERTIES LINKER_LANGUAGE C)
target_sources(guestram PUBLIC FILE_SET HEADERS
    BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${PROJECT_SOURCE_DIR}/include/guestram.h)
target_link_libraries(guestram INTERFACE seccomp cap)
