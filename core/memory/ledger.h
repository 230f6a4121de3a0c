#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/formats/format_spec.h"
#include "core/memory/model_card.h"

namespace qs {

/// One line of the ledger. Names are fixed: "linear weights", "embedding weights", "head weights", "norm weights",
/// "kv cache", "activations", "runtime overhead".
struct LedgerLine {
    std::string name;
    double bytes = 0;
    std::string formula; ///< with the numbers in it
};

struct MemoryOptions {
    std::uint64_t context = 4096; ///< tokens a sequence
    std::uint64_t batch = 1;
    std::string kv_cache = "fp16"; ///< fp32, fp16, bf16, fp8_e4m3, q8_0, q4_0
    bool flash_attention = true;
    bool quantize_embeddings = false; ///< override of what the ecosystem leaves in 16 bits; recipes decide themselves
    bool quantize_head = false;
};

/// What a model takes in one format. `total_bytes` is the sum of the lines.
struct Ledger {
    FormatSpec spec;
    std::vector<LedgerLine> lines;
    double total_bytes = 0;
    double weight_bytes = 0; ///< of the first four lines
    double naive_bytes = 0;  ///< parameters × nominal bits of the name / 8: 4 for nf4, q4_0 and int4, 8 for int8
    std::string difference;  ///< in words: why total weight bytes and naive differ
};

Ledger inference_ledger(const ModelCard& card, const FormatSpec& spec, const MemoryOptions& options);

/// A card of the catalogue (resources/gpus.json).
struct Gpu {
    std::string name;
    double bytes = 0; ///< capacity; vendors' "GB" of GPU memory are GiB and are stored so
    std::string kind; ///< laptop, desktop, workstation, datacenter
    double bandwidth_gbps = 0;
    std::string source;
};
const std::vector<Gpu>& gpu_catalogue();
/// Finds by name, without regard to case, blanks and vendor; the end of a name is enough ("4090"). Throws Error naming
/// the nearest.
const Gpu& find_gpu(const std::string& name);

/// Whether a ledger fits a GPU, and the largest context that does (0 if not even one token; capped at 16 Mi).
struct Fit {
    const Gpu* gpu = nullptr;
    bool fits = false;
    std::uint64_t max_context = 0;
};
Fit fit(const Gpu& gpu, const ModelCard& card, const FormatSpec& spec, const MemoryOptions& options);

/// The spec with the most bits per weight that fits, if any.
std::optional<FormatSpec> best_fitting(const Gpu& gpu, const ModelCard& card, const std::vector<FormatSpec>& specs,
                                       const MemoryOptions& options);

} // namespace qs
