#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "core/device/device.h"
#include "core/model/generation.h"

namespace qs {

/// A token of a continuation, and how probable each model finds it after what stands before it.
struct ContinuedToken {
    int token = 0;
    std::vector<double> probabilities; ///< by model, at temperature 1
};

/// How one model continues a text.
struct Continuation {
    std::vector<ContinuedToken> tokens;
    bool ended = false; ///< by the model's own token for it, which is the last
};

/// The first token in which a continuation differs from another; nullopt where one goes on as the other does.
std::optional<std::size_t> first_difference(const Continuation& one, const Continuation& other);

struct ContinuationRequest {
    std::vector<int> prompt; ///< of at least one token
    std::size_t tokens = 64; ///< at most
    Sampling sampling;
    std::uint64_t seed = 0; ///< the same for all models, so that they differ by their distributions alone
    std::optional<int> end; ///< the token that ends a text
};

/// Lets models continue a text side by side, each with the tokens it chooses itself; each is asked about the tokens
/// of all. Models that have chosen the same tokens so far share the work. `on_token` is given what there is after each
/// token. A hook is a model: an empty one has the weights as they are stored. They run on `device`, on the CPU where
/// that is null; where the device fails, the texts begin anew on the CPU. Throws Error, Cancelled.
std::vector<Continuation> continue_side_by_side(const Decoder& decoder, const std::vector<WeightHook>& models,
                                                const ContinuationRequest& request, JobControl& job,
                                                const std::function<void(const std::vector<Continuation>&)>& on_token,
                                                Device* device = nullptr);

} // namespace qs
