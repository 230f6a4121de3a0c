#pragma once

#include <string>
#include <type_traits>

#include "core/base/error.h"
#include "core/device/device.h"

namespace qs {

/// What work(math) returns with the device's LayerMath, and where that is null or fails with null, for which the CPU
/// does the work from its beginning. Work that fails on the CPU too is the input's fault: the device keeps its own.
template <class Work>
std::invoke_result_t<Work, LayerMath*> with_layer_math(Device& device, Work work) {
    using Result = std::invoke_result_t<Work, LayerMath*>;
    LayerMath* const math = device.layer_math();
    if (math == nullptr)
        return work(nullptr);
    std::string reason;
    try {
        return work(math);
    } catch (const Error& error) {
        reason = error.what();
    }
    if constexpr (std::is_void_v<Result>) {
        work(nullptr);
        device.give_up_layer_math(reason);
    } else {
        Result result = work(nullptr);
        device.give_up_layer_math(reason);
        return result;
    }
}

} // namespace qs
