#include "gpu/format_run.h"

#include "core/formats/codec_dispatch.h"
#include "core/formats/registry.h"
#include "gpu/families.h"

namespace qs::cuda {

GridSearch GridTables::on_device(const GridSearch& host, cudaStream_t stream) {
    const auto [entry, is_new] = entries_.try_emplace(&host);
    DeviceBuffer &places = entry->second.places, &neighbours = entry->second.neighbours;
    if (is_new) {
        const std::size_t place_bytes = host.place_count * sizeof *host.places;
        const std::size_t neighbour_bytes = host.neighbour_count * sizeof *host.neighbours;
        QS_CUDA_CHECK(
            cudaMemcpyAsync(places.reserve(place_bytes), host.places, place_bytes, cudaMemcpyHostToDevice, stream));
        QS_CUDA_CHECK(cudaMemcpyAsync(neighbours.reserve(neighbour_bytes), host.neighbours, neighbour_bytes,
                                      cudaMemcpyHostToDevice, stream));
    }
    return {places.as<std::int32_t>(), neighbours.as<std::uint16_t>(), host.place_count, host.neighbour_count};
}

std::unique_ptr<FormatRun> make_run(const FormatSpec& spec, const RunContext& context) {
    const Importance use = format(spec.id).importance;
    auto host_codec = bind_codec(spec, context.shape);
    if (spec.id == "nvfp4")
        return make_nvfp4_run(std::move(host_codec), context);
    if (spec.parameters.contains("dq") && spec.flag("dq"))
        return spec.id == "nf4" ? make_double_quant_run(Nf4Codec{static_cast<std::uint64_t>(spec.integer("block"))},
                                                        std::move(host_codec), context)
                                : make_double_quant_run(Fp4Codec{static_cast<std::uint64_t>(spec.integer("block"))},
                                                        std::move(host_codec), context);
    const bool weighted = context.importance != nullptr && use != Importance::unused;
    if (has_block_codec(spec) && !weighted)
        return with_codec(spec,
                          [&](const auto& codec) { return make_codec_run(codec, std::move(host_codec), context); });
    return with_ggml_packed_codec(
        spec, [&]<class Codec>(const Codec&) { return make_packed_run<Codec>(std::move(host_codec), use, context); });
}

} // namespace qs::cuda
