#pragma once

#include <QDir>
#include <QFile>
#include <QTemporaryDir>

#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "core/base/half.h"
#include "core/device/device.h"

namespace qs::test {

/// Normal weights with a few outliers, the same in every run.
inline std::vector<float> random_weights(std::size_t count, unsigned seed, double std = 0.02) {
    std::mt19937 engine(seed);
    std::normal_distribution<double> normal(0, std);
    std::vector<float> weights(count);
    for (float& w : weights)
        w = static_cast<float>(normal(engine));
    for (std::size_t i = 0; i < count; i += 9973)
        weights[i] *= 12;
    return weights;
}

inline std::vector<std::uint16_t> to_bf16(const std::vector<float>& weights) {
    std::vector<std::uint16_t> result(weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i)
        result[i] = float_to_bf16(weights[i]);
    return result;
}

template <class T>
TensorView view(const std::vector<T>& data, DType dtype, std::uint64_t columns) {
    return {dtype, false, reinterpret_cast<const std::byte*>(data.data()), {data.size() / columns, columns}, nullptr};
}

/// A tensor of a safetensors file made by a test.
struct StoredTensor {
    std::string name, dtype;
    std::vector<std::int64_t> shape;
    std::vector<std::byte> bytes;
};

template <class T>
StoredTensor stored(std::string name, std::string dtype, std::vector<std::int64_t> shape, const std::vector<T>& data) {
    StoredTensor tensor{std::move(name), std::move(dtype), std::move(shape), {}};
    tensor.bytes.resize(data.size() * sizeof(T));
    std::memcpy(tensor.bytes.data(), data.data(), tensor.bytes.size());
    return tensor;
}

/// Writes a safetensors file and returns its path.
inline QString write_safetensors(const QTemporaryDir& folder, const QString& name,
                                 const std::vector<StoredTensor>& tensors) {
    nlohmann::ordered_json header;
    std::size_t offset = 0;
    for (const auto& tensor : tensors) {
        header[tensor.name] = {
            {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + tensor.bytes.size()}}};
        offset += tensor.bytes.size();
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const auto length = static_cast<std::uint64_t>(text.size());
    const QString path = folder.filePath(name);
    QFile file(path);
    if (!file.open(QIODevice::WriteOnly))
        return {};
    file.write(reinterpret_cast<const char*>(&length), 8);
    file.write(text.data(), static_cast<qint64>(text.size()));
    for (const auto& tensor : tensors)
        file.write(reinterpret_cast<const char*>(tensor.bytes.data()), static_cast<qint64>(tensor.bytes.size()));
    return path;
}

} // namespace qs::test
