#include "core/model/decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/model/product.h"

namespace qs {

namespace {

bool depends_on_length(const RopeSettings& rope) {
    return rope.scaling == RopeScaling::dynamic || rope.scaling == RopeScaling::longrope;
}

WeightReader open_weights(std::shared_ptr<const Checkpoint> checkpoint) {
    DecoderConfig config = read_decoder_config(*checkpoint);
    return WeightReader(std::move(checkpoint), std::move(config));
}

/// Makes tables for the texts of one run, each once.
class RopeTableMaker {
public:
    RopeTableMaker(const DecoderConfig& config, Index longest)
        : config_(config), longest_(longest),
          by_length_(depends_on_length(config.rope) || depends_on_length(config.sliding_rope)) {}

    /// Whether texts of different lengths need different tables.
    bool by_length() const { return by_length_; }

    std::shared_ptr<const RopeTables> table(Index length) {
        auto& table = tables_[by_length_ ? length : longest_];
        if (table == nullptr)
            table = std::make_shared<const RopeTables>(config_, by_length_ ? length : longest_);
        return table;
    }

private:
    const DecoderConfig& config_;
    Index longest_;
    bool by_length_;
    std::map<Index, std::shared_ptr<const RopeTables>> tables_;
};

} // namespace

RopeTables::RopeTables(const DecoderConfig& config, Index tokens) {
    if (config.learned_positions)
        return;
    full_ = make_rope_table(config.rope, tokens);
    if (!config.layer_slides.empty())
        sliding_ = make_rope_table(config.sliding_rope, tokens);
}

Decoder::Decoder(std::shared_ptr<const Checkpoint> checkpoint) : reader_(open_weights(std::move(checkpoint))) {}

Matrix Decoder::embed(std::span<const int> tokens, Index first, const Matrix* embedding) const {
    for (const int token : tokens)
        if (token < 0 || token >= config().vocabulary)
            throw Error(
                reader_.checkpoint().path.string(),
                fmt::format("has a vocabulary of {}, in which there is no token {}", config().vocabulary, token),
                "use token ids of this model's tokenizer");
    Matrix hidden;
    if (embedding == nullptr) {
        hidden = reader_.load_rows(reader_.embedding(), tokens);
    } else {
        hidden.resize(static_cast<Index>(tokens.size()), config().hidden);
        for (std::size_t i = 0; i < tokens.size(); ++i)
            hidden.row(static_cast<Index>(i)) = embedding->row(tokens[i]);
    }
    if (config().embedding_scale != 1)
        hidden *= static_cast<float>(config().embedding_scale);
    if (config().learned_positions)
        hidden += reader_.positions(first + hidden.rows()).bottomRows(hidden.rows());
    return hidden;
}

std::vector<Batch> Decoder::start(std::span<const std::vector<int>> texts, const Matrix* embedding) const {
    std::size_t longest = 0;
    for (const auto& text : texts)
        longest = std::max(longest, text.size());
    RopeTableMaker tables(config(), static_cast<Index>(longest));
    std::vector<Batch> batches;
    for (const auto& text : texts) {
        const auto length = static_cast<Index>(text.size());
        if (batches.empty() || tables.by_length() ||
            static_cast<Index>(batches.back().tokens.size()) + length > batch_tokens)
            batches.push_back({{}, {}, tables.table(length), {}});
        Batch& batch = batches.back();
        batch.sequences.push_back({static_cast<Index>(batch.tokens.size()), length});
        batch.tokens.insert(batch.tokens.end(), text.begin(), text.end());
    }
    for (Batch& batch : batches) {
        batch.hidden.resize(static_cast<Index>(batch.tokens.size()), config().hidden);
        for (const auto& [begin, length] : batch.sequences)
            batch.hidden.middleRows(begin, length) = embed(
                std::span(batch.tokens).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(length)), 0,
                embedding);
    }
    return batches;
}

void Decoder::advance(const LayerWeights& weights, std::vector<Batch>& batches, LayerActivations& activations,
                      const LinearObserver& observer, JobControl& job) const {
    const auto check_and_observe = [&](const LinearTensor& tensor, const Matrix& inputs, const Matrix& outputs) {
        job.check();
        if (observer)
            observer(tensor, inputs, outputs);
    };
    for (Batch& batch : batches)
        forward_layer(config(), weights, batch.rope->of(config(), weights.layer), batch.sequences, nullptr,
                      batch.hidden, activations, check_and_observe);
}

Head Decoder::load_head(const WeightHook& hook) const {
    const LinearTensor tensor = reader_.head();
    Head head{reader_.output_norm(), reader_.load(tensor)};
    if (hook)
        hook(tensor, head.weight);
    return head;
}

void head_logits(const DecoderConfig& config, const Head& head, const Matrix& hidden, Matrix& out) {
    Matrix normed;
    normalise(config, head.norm, hidden, normed);
    multiply(normed, head.weight, out);
    soft_cap(config.logit_softcap, out);
}

void Decoder::logits(const Head& head, const Matrix& hidden, Matrix& out) const {
    head_logits(config(), head, hidden, out);
}

Matrix Decoder::run(const std::vector<int>& tokens, const WeightHook& hook, const LinearObserver& observer) const {
    JobControl job;
    std::vector<Batch> batches = start(std::span(&tokens, 1));
    LayerActivations activations;
    for (int layer = 0; layer < config().layers; ++layer)
        advance(reader_.layer(layer, hook), batches, activations, observer, job);
    Matrix result;
    logits(load_head(), batches[0].hidden, result);
    return result;
}

} // namespace qs
