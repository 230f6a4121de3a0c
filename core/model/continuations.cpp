#include "core/model/continuations.h"

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/device/with_layer_math.h"

namespace qs {

namespace {

/// Float32 weights of all models' layers together that are kept in memory.
constexpr std::size_t resident_bytes = std::size_t{6} << 30;

/// A text that some models have chosen; all of them are run over it.
struct Branch {
    std::vector<std::size_t> followers; ///< models whose text it is
    std::vector<Session> sessions;      ///< by model
    std::vector<int> next;              ///< tokens that the sessions have not been fed
};

class SideBySide {
public:
    SideBySide(const Decoder& decoder, const std::vector<WeightHook>& models, const ContinuationRequest& request,
               LayerMath* math)
        : request_(request), texts_(models.size()) {
        Branch all{{}, {}, request.prompt};
        const auto capacity = static_cast<Index>(request.prompt.size() + request.tokens);
        for (std::size_t model = 0; model < models.size(); ++model) {
            all.followers.push_back(model);
            all.sessions.emplace_back(decoder, capacity, models[model], resident_bytes / models.size(), math);
            samplers_.emplace_back(request.sampling, request.seed);
        }
        branches_.push_back(std::move(all));
    }

    const std::vector<Continuation>& texts() const { return texts_; }

    /// Adds a token to each text; false where all have ended.
    bool step(JobControl& job) {
        std::vector<Branch> grown;
        for (Branch& branch : branches_)
            grow(branch, grown, job);
        branches_ = std::move(grown);
        return !branches_.empty();
    }

private:
    void grow(Branch& branch, std::vector<Branch>& grown, JobControl& job) {
        std::vector<RowVector> logits;
        std::vector<std::vector<double>> distributions;
        for (Session& session : branch.sessions) {
            logits.push_back(session.feed(branch.next, job));
            distributions.push_back(probabilities(logits.back()));
        }
        std::map<int, std::vector<std::size_t>> choices;
        for (const std::size_t model : branch.followers) {
            const int token = samplers_[model].choose(logits[model]);
            ContinuedToken& added = texts_[model].tokens.emplace_back(ContinuedToken{token, {}});
            for (const auto& distribution : distributions)
                added.probabilities.push_back(distribution[static_cast<std::size_t>(token)]);
            texts_[model].ended = token == request_.end;
            if (!texts_[model].ended)
                choices[token].push_back(model);
        }
        std::size_t left = choices.size();
        for (auto& [token, followers] : choices)
            grown.push_back(
                {std::move(followers), --left == 0 ? std::move(branch.sessions) : branch.sessions, {token}});
    }

    const ContinuationRequest& request_;
    std::vector<Continuation> texts_;
    std::vector<Sampler> samplers_;
    std::vector<Branch> branches_;
};

} // namespace

std::optional<std::size_t> first_difference(const Continuation& one, const Continuation& other) {
    const auto [place, there] =
        std::ranges::mismatch(one.tokens, other.tokens, {}, &ContinuedToken::token, &ContinuedToken::token);
    if (place == one.tokens.end() || there == other.tokens.end())
        return std::nullopt;
    return static_cast<std::size_t>(place - one.tokens.begin());
}

std::vector<Continuation> continue_side_by_side(const Decoder& decoder, const std::vector<WeightHook>& models,
                                                const ContinuationRequest& request, JobControl& job,
                                                const std::function<void(const std::vector<Continuation>&)>& on_token,
                                                Device* device) {
    if (request.prompt.empty())
        throw Error("the prompt", "has no token", "write a word");
    const auto continued = [&](LayerMath* math) {
        SideBySide run(decoder, models, request, math);
        for (std::size_t i = 0; i < request.tokens; ++i) {
            const bool more = run.step(job);
            if (on_token)
                on_token(run.texts());
            if (!more)
                break;
        }
        return run.texts();
    };
    return device != nullptr ? with_layer_math(*device, continued) : continued(nullptr);
}

} // namespace qs
