#include "gui_frame_files.h"

#include <QFile>

#include <nlohmann/json.hpp>

#include <random>
#include <stdexcept>

void writeSafetensors(const QString& path, const std::vector<TestTensor>& tensors) {
    std::string text;
    std::size_t offset = 0;
    for (const TestTensor& tensor : tensors) {
        std::size_t bytes = sizeof(float);
        for (const int extent : tensor.shape)
            bytes *= static_cast<std::size_t>(extent);
        const nlohmann::json entry = {
            {"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + bytes}}};
        text += text.empty() ? '{' : ',';
        text += nlohmann::json(tensor.name).dump() + ':' + entry.dump();
        offset += bytes;
    }
    text += '}';
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const auto length = static_cast<std::uint64_t>(text.size());

    QFile file(path);
    if (!file.open(QIODevice::WriteOnly))
        throw std::runtime_error("cannot write " + path.toStdString());
    file.write(reinterpret_cast<const char*>(&length), sizeof length);
    file.write(text.data(), static_cast<qint64>(text.size()));
    std::mt19937 generator(7);
    std::normal_distribution<float> normal(0, 0.02F);
    std::vector<float> weights(std::size_t{1} << 16);
    for (std::size_t left = offset / sizeof(float); left > 0;) {
        for (float& weight : weights)
            weight = normal(generator);
        const std::size_t part = std::min(left, weights.size());
        file.write(reinterpret_cast<const char*>(weights.data()), static_cast<qint64>(part * sizeof(float)));
        left -= part;
    }
    if (!file.flush())
        throw std::runtime_error("cannot write " + path.toStdString());
}

std::vector<TestTensor> decoder(int layers, int width) {
    std::vector<TestTensor> tensors{{"model.embed_tokens.weight", {4 * width, width}}};
    for (int layer = 0; layer < layers; ++layer) {
        const std::string prefix = QStringLiteral("model.layers.%1.").arg(layer).toStdString();
        for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                 "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
            tensors.push_back({prefix + name + ".weight", {width, width}});
        tensors.push_back({prefix + "input_layernorm.weight", {width}});
    }
    tensors.push_back({"model.norm.weight", {width}});
    tensors.push_back({"lm_head.weight", {4 * width, width}});
    return tensors;
}
