#include "core/model/evaluation_state.h"

#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "core/base/atomic_file.h"
#include "core/base/error.h"

namespace qs {

namespace {

using nlohmann::json;

/// FNV-1a of the windows' ids.
std::string hash_of(const std::vector<std::vector<int>>& windows) {
    std::uint64_t hash = 0xcbf29ce484222325;
    const auto add = [&](std::uint64_t value) { hash = (hash ^ value) * 0x100000001b3; };
    for (const auto& window : windows) {
        add(window.size());
        for (const int id : window)
            add(static_cast<std::uint64_t>(id));
    }
    return fmt::format("{:016x}", hash);
}

json key_of(const Checkpoint& checkpoint, const EvaluationRequest& request) {
    return {{"checkpoint", checkpoint.path.filename().string()},
            {"bytes", checkpoint.bytes()},
            {"text", hash_of(request.windows)},
            {"windows", request.windows.size()},
            {"all_matrices", request.all_matrices},
            {"layer_errors", request.layer_errors},
            {"imatrix", request.imatrix != nullptr ? request.imatrix->path.string() : ""}};
}

json to_json(const ModelState& state) {
    json windows = json::object(), linears = json::object();
    for (const auto& [window, scores] : state.windows)
        windows[std::to_string(window)] = {{"nll", scores.nll}, {"kld", scores.kld}, {"same_top", scores.same_top}};
    for (const auto& [name, linear] : state.linears)
        linears[name] = {linear.stored_bits, linear.weights, linear.error2, linear.output2};
    return {{"windows", std::move(windows)}, {"linears", std::move(linears)}};
}

ModelState state_of(const json& document) {
    ModelState state;
    for (const auto& [window, scores] : document.at("windows").items()) {
        const TokenScores read{scores.at("nll"), scores.at("kld"), scores.at("same_top")};
        if (read.kld.size() != read.count() || read.same_top.size() != read.count())
            throw Error("window " + window, "has lists of different lengths");
        state.windows.emplace(std::stoul(window), read);
    }
    for (const auto& [name, linear] : document.at("linears").items())
        state.linears[name] = {linear.at(0), linear.at(1), linear.at(2), linear.at(3)};
    return state;
}

std::string read_text(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

TokenScores all_windows(const ModelState& state) {
    TokenScores scores;
    for (const auto& [window, part] : state.windows)
        scores.append(part);
    return scores;
}

} // namespace

EvaluationState::EvaluationState(const Checkpoint& checkpoint, const EvaluationRequest& request)
    : path_(request.state), key_(key_of(checkpoint, request)) {
    if (path_.empty() || !std::filesystem::exists(path_))
        return;
    try {
        const json document = json::parse(read_text(path_));
        if (document.at("evaluation") != key_)
            throw Error(path_.string(), "holds results of another model, text or choice of tensors",
                        "name another file, or remove it");
        reference_ = state_of(document.at("reference"));
        for (const auto& [spec, state] : document.at("formats").items())
            formats_[spec] = state_of(state);
    } catch (const Error&) {
        throw;
    } catch (const std::exception&) {
        throw Error(path_.string(), "is not a file of evaluation results", "name another file, or remove it");
    }
}

bool EvaluationState::has(const FormatSpec& spec, std::size_t window) const {
    const auto found = formats_.find(spec.text());
    return found != formats_.end() && found->second.windows.contains(window);
}

Evaluation EvaluationState::result(const std::vector<FormatSpec>& specs) const {
    Evaluation evaluation;
    evaluation.reference = summarise(all_windows(reference_));
    evaluation.windows_done = reference_.windows.size();
    for (const FormatSpec& spec : specs) {
        FormatEvaluation& format = evaluation.formats.emplace_back();
        format.spec = spec;
        const auto found = formats_.find(spec.text());
        if (found == formats_.end())
            continue;
        format.scores = summarise(all_windows(found->second));
        format.linears = found->second.linears;
        double bits = 0, weights = 0;
        for (const auto& [name, linear] : format.linears) {
            bits += linear.stored_bits;
            weights += linear.weights;
        }
        format.bits_per_weight = weights > 0 ? bits / weights : 0;
    }
    return evaluation;
}

void EvaluationState::save() const {
    if (path_.empty())
        return;
    json formats = json::object();
    for (const auto& [spec, state] : formats_)
        formats[spec] = to_json(state);
    AtomicFile file(path_);
    file.write(json{{"evaluation", key_}, {"reference", to_json(reference_)}, {"formats", std::move(formats)}}.dump());
    file.commit();
}

} // namespace qs
