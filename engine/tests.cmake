# The unit tests of the numerics; included by engine/CMakeLists.txt.
