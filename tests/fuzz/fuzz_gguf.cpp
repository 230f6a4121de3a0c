#include "tests/fuzz/open_bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    qs::fuzz::parse_bytes(data, size, qs::parse_gguf);
    return 0;
}
