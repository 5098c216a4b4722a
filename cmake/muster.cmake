# The vocabulary of the CMakeLists.txt files:
#
#   add_module(name SOURCES a.c b.c [USES base proto] [EXTERNAL sodium zmq])
#       The static library muster_<name>, in folder <name>/. USES names modules, EXTERNAL names
#       rows of the table below.
#   add_nanopb(module proto/muster.proto)
#       Generates proto/muster.pb.{c,h} in the build folder and links them into the module.
#   add_program(name SOURCES main.c [USES ...] [EXTERNAL ...])
#       An executable at the top of the build folder.
#   add_unit_test(module file [USES ...] [EXTERNAL ...] [SOURCES ...] [ARGS ...] [TIMEOUT s])
#       tests/unit/<module>/test_<file>.c as ctest "unit.<module>.<file>", label unit. Links only
#       the module with what it uses, tests/support and cmocka. Exit status 77 is "skipped".
#   add_property_test(module file [...])   tests/property/test_<file>.c, label property
#   add_fuzz_target(module name [...])     tests/fuzz/fuzz_<name>.c over tests/fuzz/corpus/<name>/
#   add_integration_test(name file [...])  tests/integration/<file>, a .c or an executable script,
#                                          label integration; finds the program in $MUSTER
#
# Targets "tests_<module>" build the tests of one module.

include(CMakeParseArguments)
if(NOT MUSTER_ENGINE_ONLY)
    find_package(PkgConfig REQUIRED)
endif()
find_package(Threads REQUIRED)

# ---- flags ----------------------------------------------------------------------------------

# Everybody gets these, generated code too: numbers must not depend on what the compiler would
# like to contract (docs/numerics.md).
add_compile_definitions(_GNU_SOURCE)
set(not_cuda "$<NOT:$<COMPILE_LANGUAGE:CUDA>>") # whose flags are in engine/cuda/sources.cmake
add_compile_options("$<${not_cuda}:-ffp-contract=off;-fno-math-errno;-fno-omit-frame-pointer>")
if(MUSTER_SANITIZE)
    add_compile_options(
        "$<${not_cuda}:-fsanitize=${MUSTER_SANITIZE};-fno-sanitize-recover=all>")
    add_link_options(-fsanitize=${MUSTER_SANITIZE} -fno-sanitize-recover=all)
endif()
if(MUSTER_FUZZER)
    add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(MUSTER_COVERAGE)
    add_compile_options(--coverage)
    add_link_options(--coverage)
endif()

# Only our own sources get these.
add_library(muster_flags INTERFACE)
target_include_directories(muster_flags INTERFACE "${CMAKE_SOURCE_DIR}")
target_compile_options(muster_flags INTERFACE
    "$<$<COMPILE_LANGUAGE:C>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wconversion;-Wno-sign-conversion>"
    "$<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes;-Wmissing-prototypes;-Wvla;-Wformat=2;-Wundef>"
    $<$<COMPILE_LANGUAGE:C>:-Wwrite-strings>
    $<$<COMPILE_LANG_AND_ID:C,GNU>:-Wno-format-truncation> # messages are cut on purpose
    $<$<COMPILE_LANG_AND_ID:C,Clang>:-Wno-string-conversion> # CHECK(!"why")
    $<$<COMPILE_LANG_AND_ID:C,Clang>:-Wno-pass-failed> # a loop not vectorised at -O1 is no mistake
    "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow>" # the emulator of CUDA, for tests
    "$<$<AND:$<BOOL:${MUSTER_WERROR}>,${not_cuda}>:-Werror>"
    "$<$<AND:$<BOOL:${MUSTER_WERROR}>,$<COMPILE_LANGUAGE:CUDA>>:-Werror=all-warnings>"
    "$<$<COMPILE_LANGUAGE:C>:SHELL:-include ${CMAKE_SOURCE_DIR}/base/banned.h>")

# ---- libraries of others --------------------------------------------------------------------

# name, pkg-config module or "lib:<file to look for>:<header>", Debian package
set(MUSTER_EXTERNALS
    "sodium|libsodium|libsodium-dev"
    "zmq|libzmq|libzmq3-dev"
    "lmdb|lmdb|liblmdb-dev"
    "jansson|jansson|libjansson-dev"
    "cyaml|libcyaml|libcyaml-dev"
    "yaml|yaml-0.1|libyaml-dev"
    "pcre2-8|libpcre2-8|libpcre2-dev"
    "utf8proc|libutf8proc|libutf8proc-dev"
    "zstd|libzstd|libzstd-dev"
    "microhttpd|libmicrohttpd|libmicrohttpd-dev"
    "lua5.4|lua5.4|liblua5.4-dev"
    "seccomp|libseccomp|libseccomp-dev"
    "openblas|openblas|libopenblas-dev"
    "cmocka|cmocka|libcmocka-dev"
    "nanopb|lib:protobuf-nanopb:pb_encode.h|libnanopb-dev")

define_property(GLOBAL PROPERTY MUSTER_MISSING BRIEF_DOCS "Debian packages to install"
                FULL_DOCS "Debian packages to install")

# The target muster_ext_<name>, made on first use. A missing package is noted, so that all of
# them can be told at once at the end.
function(muster_external name)
    if(TARGET muster_ext_${name})
        return()
    endif()
    add_library(muster_ext_${name} INTERFACE IMPORTED GLOBAL)
    if(name STREQUAL "pthread")
        target_link_libraries(muster_ext_pthread INTERFACE Threads::Threads)
        return()
    endif()
    if(name STREQUAL "m" OR name STREQUAL "dl" OR name STREQUAL "rt")
        target_link_libraries(muster_ext_${name} INTERFACE ${name})
        return()
    endif()
    if(MUSTER_ENGINE_ONLY AND name STREQUAL "cmocka")
        target_include_directories(muster_ext_cmocka INTERFACE
                                   "${CMAKE_SOURCE_DIR}/tests/support/stand_in")
        return()
    endif()
    foreach(row IN LISTS MUSTER_EXTERNALS)
        string(REPLACE "|" ";" cells "${row}")
        list(GET cells 0 row_name)
        if(NOT row_name STREQUAL name)
            continue()
        endif()
        list(GET cells 1 how)
        list(GET cells 2 package)
        if(how MATCHES "^lib:(.+):(.+)$")
            find_library(MUSTER_LIB_${name} ${CMAKE_MATCH_1})
            find_path(MUSTER_INC_${name} ${CMAKE_MATCH_2})
            if(MUSTER_LIB_${name} AND MUSTER_INC_${name})
                target_link_libraries(muster_ext_${name} INTERFACE "${MUSTER_LIB_${name}}")
                target_include_directories(muster_ext_${name} SYSTEM INTERFACE
                                           "${MUSTER_INC_${name}}")
                return()
            endif()
        else()
            pkg_check_modules(MUSTER_PC_${name} QUIET IMPORTED_TARGET GLOBAL ${how})
            if(MUSTER_PC_${name}_FOUND)
                target_link_libraries(muster_ext_${name} INTERFACE PkgConfig::MUSTER_PC_${name})
                return()
            endif()
        endif()
        set_property(GLOBAL APPEND PROPERTY MUSTER_MISSING ${package})
        return()
    endforeach()
    message(FATAL_ERROR "EXTERNAL '${name}' is not in the table of cmake/muster.cmake")
endfunction()

function(muster_report_missing_packages)
    get_property(missing GLOBAL PROPERTY MUSTER_MISSING)
    if(missing)
        list(REMOVE_DUPLICATES missing)
        list(SORT missing)
        list(JOIN missing " " words)
        message(FATAL_ERROR "these Debian packages are missing:\n  ${words}\n"
                            "Install them with: sudo apt-get install ${words}")
    endif()
endfunction()

# ---- modules --------------------------------------------------------------------------------

# Leaves in `out` those of `sources` that exist; without MUSTER_PARTIAL a missing one is an error.
function(muster_existing out who)
    set(found "")
    foreach(source IN LISTS ARGN)
        get_filename_component(path "${source}" ABSOLUTE)
        get_source_file_property(is_generated "${path}" GENERATED)
        if(EXISTS "${path}" OR is_generated)
            list(APPEND found "${path}")
        elseif(MUSTER_PARTIAL)
            message(STATUS "${who}: no ${path}: left out")
        else()
            message(FATAL_ERROR "${who}: no ${path} (with -DMUSTER_PARTIAL=ON the rest is built)")
        endif()
    endforeach()
    set(${out} "${found}" PARENT_SCOPE)
endfunction()

function(muster_link target visibility)
    cmake_parse_arguments(A "" "" "USES;EXTERNAL" ${ARGN})
    foreach(module IN LISTS A_USES)
        if(TARGET muster_${module})
            target_link_libraries(${target} ${visibility} muster_${module})
        elseif(MUSTER_PARTIAL)
            message(STATUS "${target}: module ${module} is not here yet: left out")
        else()
            message(FATAL_ERROR "${target} USES ${module}, which is no module above it "
                                "(with -DMUSTER_PARTIAL=ON the rest is built)")
        endif()
    endforeach()
    foreach(name IN LISTS A_EXTERNAL)
        muster_external(${name})
        target_link_libraries(${target} ${visibility} muster_ext_${name})
    endforeach()
endfunction()

function(add_module name)
    cmake_parse_arguments(A "" "" "SOURCES;USES;EXTERNAL" ${ARGN})
    muster_existing(sources "module ${name}" ${A_SOURCES})
    if(NOT sources)
        message(STATUS "module ${name} has no sources: left out")
        return()
    endif()
    add_library(muster_${name} STATIC ${sources})
    target_link_libraries(muster_${name} PRIVATE muster_flags)
    target_include_directories(muster_${name} PUBLIC "${CMAKE_SOURCE_DIR}")
    muster_link(muster_${name} PUBLIC USES ${A_USES} EXTERNAL ${A_EXTERNAL})
    if(TARGET muster_${name}_pb)
        target_link_libraries(muster_${name} PUBLIC muster_${name}_pb)
    endif()
endfunction()

function(add_program name)
    cmake_parse_arguments(A "" "" "SOURCES;USES;EXTERNAL" ${ARGN})
    muster_existing(sources "program ${name}" ${A_SOURCES})
    add_executable(${name} ${sources})
    target_link_libraries(${name} PRIVATE muster_flags)
    muster_link(${name} PRIVATE USES ${A_USES} EXTERNAL ${A_EXTERNAL})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}")
endfunction()

# The generator is Debian's and needs Debian's Python: another python3 in PATH may lack protobuf.
function(add_nanopb module proto)
    set(python /usr/bin/python3)
    find_program(MUSTER_NANOPB_GENERATOR NAMES nanopb_generator.py nanopb_generator
                 PATHS /usr/bin NO_DEFAULT_PATH)
    find_program(MUSTER_PROTOC protoc)
    if(NOT MUSTER_NANOPB_GENERATOR)
        set_property(GLOBAL APPEND PROPERTY MUSTER_MISSING nanopb)
        set(MUSTER_NANOPB_GENERATOR nanopb_generator.py)
    endif()
    if(NOT MUSTER_PROTOC)
        set_property(GLOBAL APPEND PROPERTY MUSTER_MISSING protobuf-compiler)
    endif()
    execute_process(COMMAND ${python} -c "import google.protobuf" RESULT_VARIABLE no_protobuf
                    OUTPUT_QUIET ERROR_QUIET)
    if(NOT no_protobuf EQUAL 0)
        set_property(GLOBAL APPEND PROPERTY MUSTER_MISSING python3 python3-protobuf)
    endif()

    set(out "${CMAKE_BINARY_DIR}/generated")
    string(REGEX REPLACE "\\.proto$" "" stem "${proto}")
    get_filename_component(folder "${out}/${stem}" DIRECTORY)
    file(MAKE_DIRECTORY "${folder}")
    set(inputs "${CMAKE_SOURCE_DIR}/${proto}")
    if(EXISTS "${CMAKE_SOURCE_DIR}/${stem}.options")
        list(APPEND inputs "${CMAKE_SOURCE_DIR}/${stem}.options")
    endif()
    add_custom_command(
        OUTPUT "${out}/${stem}.pb.c" "${out}/${stem}.pb.h"
        COMMAND ${python} ${MUSTER_NANOPB_GENERATOR} -q -T -I . -D "${out}" ${proto}
        DEPENDS ${inputs}
        WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}"
        COMMENT "nanopb ${proto}"
        VERBATIM)
    muster_external(nanopb)
    add_library(muster_${module}_pb STATIC "${out}/${stem}.pb.c" "${out}/${stem}.pb.h")
    target_compile_options(muster_${module}_pb PRIVATE -w)
    target_include_directories(muster_${module}_pb SYSTEM PUBLIC "${out}")
    target_link_libraries(muster_${module}_pb PUBLIC muster_ext_nanopb)
    if(TARGET muster_${module})
        target_link_libraries(muster_${module} PUBLIC muster_${module}_pb)
    endif()
endfunction()

# ---- tests ----------------------------------------------------------------------------------

# Sanitizers stop at the first finding, and a test that aborts must not leave a core behind.
set(MUSTER_TEST_ENV
    "ASAN_OPTIONS=detect_stack_use_after_return=1:allocator_may_return_null=1:disable_coredump=1"
    "UBSAN_OPTIONS=print_stacktrace=1"
    "TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:allocator_may_return_null=1:suppressions=${CMAKE_SOURCE_DIR}/tests/support/tsan.supp")

function(muster_test_name out file)
    get_filename_component(stem "${file}" NAME_WLE)
    string(REGEX REPLACE "^(test_|fuzz_)" "" stem "${stem}")
    set(${out} "${stem}" PARENT_SCOPE)
endfunction()

# The target and ctest entry of one test program; what differs between labels comes as arguments.
function(muster_add_test kind name module source)
    cmake_parse_arguments(A "" "TIMEOUT" "USES;EXTERNAL;SOURCES;ARGS;ENV;LABELS" ${ARGN})
    if(MUSTER_PARTIAL AND module AND NOT TARGET muster_${module})
        message(STATUS "test ${name}: module ${module} is not here yet: left out")
        return()
    endif()
    muster_existing(sources "test ${name}" "${source}" ${A_SOURCES})
    if(NOT "${source}" IN_LIST sources)
        return()
    endif()
    string(REPLACE "." "_" target "test_${name}")
    add_executable(${target} ${sources})
    target_include_directories(${target} PRIVATE "${CMAKE_SOURCE_DIR}/tests")
    target_compile_definitions(${target} PRIVATE MUSTER_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    target_link_libraries(${target} PRIVATE muster_flags muster_support)
    muster_link(${target} PRIVATE USES ${module} ${A_USES} EXTERNAL cmocka ${A_EXTERNAL})
    set_target_properties(${target} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/${kind}")
    add_test(NAME ${name} COMMAND ${target} ${A_ARGS})
    if(NOT A_TIMEOUT)
        set(A_TIMEOUT 240)
    endif()
    set_tests_properties(${name} PROPERTIES LABELS "${kind};${A_LABELS}" TIMEOUT ${A_TIMEOUT}
        SKIP_RETURN_CODE 77 ENVIRONMENT "${MUSTER_TEST_ENV};${A_ENV}")
    set(group "tests_${module}")
    if(NOT module)
        set(group "tests_${kind}")
    endif()
    if(NOT TARGET ${group})
        add_custom_target(${group})
    endif()
    add_dependencies(${group} ${target})
endfunction()

function(add_unit_test module file)
    muster_test_name(stem "${file}")
    muster_add_test(unit "unit.${module}.${stem}" ${module}
        "${CMAKE_SOURCE_DIR}/tests/unit/${module}/test_${stem}.c" ${ARGN})
endfunction()

function(add_property_test module file)
    muster_test_name(stem "${file}")
    muster_add_test(property "property.${module}.${stem}" ${module}
        "${CMAKE_SOURCE_DIR}/tests/property/test_${stem}.c" ${ARGN})
endfunction()

# With MUSTER_FUZZER a libFuzzer program, whose test replays the corpus; otherwise a program that
# replays the corpus together with truncations and mutations of each file.
function(add_fuzz_target module file)
    muster_test_name(stem "${file}")
    set(corpus "${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${stem}")
    set(source "${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz_${stem}.c")
    if(MUSTER_FUZZER)
        muster_add_test(fuzz "fuzz.${stem}" ${module} "${source}" ${ARGN}
                        ARGS -runs=0 "${corpus}")
        if(TARGET test_fuzz_${stem})
            target_link_options(test_fuzz_${stem} PRIVATE -fsanitize=fuzzer)
            set_property(GLOBAL APPEND PROPERTY MUSTER_FUZZERS ${stem})
        endif()
    else()
        muster_add_test(fuzz "fuzz.${stem}" ${module} "${source}" ${ARGN}
                        SOURCES "${CMAKE_SOURCE_DIR}/tests/support/fuzz_main.c"
                        ARGS "${corpus}")
    endif()
endfunction()

function(add_integration_test name file)
    cmake_parse_arguments(A "OWN" "TIMEOUT" "USES;EXTERNAL;SOURCES;ARGS;ENV;LABELS" ${ARGN})
    set(source "${CMAKE_SOURCE_DIR}/tests/integration/${file}")
    set(program "${MUSTER_INTEGRATION_PROGRAM}")
    if(NOT program OR A_OWN)
        set(program "${CMAKE_BINARY_DIR}/muster")
    endif()
    if(NOT A_TIMEOUT)
        set(A_TIMEOUT 300)
    endif()
    if(file MATCHES "\\.c$")
        muster_add_test(integration "integration.${name}" "" "${source}" ${ARGN}
                        TIMEOUT ${A_TIMEOUT} ENV "MUSTER=${program}")
        return()
    endif()
    if(NOT EXISTS "${source}")
        muster_existing(ignored "test integration.${name}" "${source}")
        return()
    endif()
    add_test(NAME integration.${name} COMMAND "${source}" ${A_ARGS})
    set_tests_properties(integration.${name} PROPERTIES LABELS "integration;${A_LABELS}"
        TIMEOUT ${A_TIMEOUT} SKIP_RETURN_CODE 77 COST ${A_TIMEOUT} # the long ones begin first
        ENVIRONMENT "${MUSTER_TEST_ENV};MUSTER=${program};${A_ENV}")
endfunction()
