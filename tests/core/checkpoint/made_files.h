#pragma once

#include <QByteArray>
#include <QFile>
#include <QTemporaryDir>

#include <cstdint>
#include <cstring>
#include <string>

#include "core/base/error.h"
#include "core/checkpoint/checkpoint.h"

// Files made byte by byte, right and wrong ones.

namespace qs::test {

template <class T>
QByteArray le(T value) {
    QByteArray bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
}

inline QByteArray safetensors(const QByteArray& header, qsizetype data_bytes) {
    return le(static_cast<std::uint64_t>(header.size())) + header + QByteArray(data_bytes, '\1');
}

inline QByteArray gguf_string(const QByteArray& text) {
    return le(static_cast<std::uint64_t>(text.size())) + text;
}

/// One entry of GGUF metadata: key, type id, value.
inline QByteArray gguf_entry(const QByteArray& key, std::uint32_t type, const QByteArray& value) {
    return gguf_string(key) + le(type) + value;
}

/// One row of GGUF's table of tensors; dimensions fastest first, as they are stored.
inline QByteArray gguf_tensor(const QByteArray& name, const std::vector<std::uint64_t>& dimensions, std::uint32_t type,
                              std::uint64_t offset) {
    QByteArray bytes = gguf_string(name) + le(static_cast<std::uint32_t>(dimensions.size()));
    for (const std::uint64_t dimension : dimensions)
        bytes += le(dimension);
    return bytes + le(type) + le(offset);
}

inline QByteArray gguf(const std::vector<QByteArray>& entries, const std::vector<QByteArray>& tensors,
                       qsizetype data_bytes, std::uint32_t version = 3) {
    QByteArray bytes = "GGUF" + le(version) + le(static_cast<std::uint64_t>(tensors.size())) +
                       le(static_cast<std::uint64_t>(entries.size()));
    for (const QByteArray& entry : entries)
        bytes += entry;
    for (const QByteArray& tensor : tensors)
        bytes += tensor;
    bytes.append((32 - bytes.size() % 32) % 32, '\0');
    return bytes + QByteArray(data_bytes, '\1');
}

/// A file in the other byte order: the tensor w of 1 and -2.
inline QByteArray big_endian_gguf() {
    const auto be32 = [](std::uint32_t value) { return le(__builtin_bswap32(value)); };
    const auto be64 = [](std::uint64_t value) { return le(__builtin_bswap64(value)); };
    QByteArray bytes = "GGUF" + be32(3) + be64(1) + be64(1);
    bytes += be64(20) + QByteArray("general.architecture") + be32(8) + be64(5) + QByteArray("llama");
    bytes += be64(1) + QByteArray("w") + be32(1) + be64(2) + be32(0) + be64(0);
    bytes.append((32 - bytes.size() % 32) % 32, '\0');
    return bytes + be32(0x3F800000) + be32(0xC0000000);
}

/// Writes files into a folder that goes away with it.
class Files {
public:
    std::string write(const QString& name, const QByteArray& bytes) {
        const QString path = folder_.filePath(name);
        QFile file(path);
        return file.open(QIODevice::WriteOnly) && file.write(bytes) == bytes.size() ? path.toStdString()
                                                                                    : std::string();
    }
    std::string folder() const { return folder_.path().toStdString(); }

private:
    QTemporaryDir folder_;
};

/// The error that an action throws; empty if it throws none.
template <class Action>
QString failure(Action action) {
    try {
        action();
    } catch (const Error& error) {
        return QString::fromStdString(error.what());
    }
    return {};
}

/// The error of opening `path`; empty if it opens.
inline QString refusal(const std::string& path) {
    try {
        open_checkpoint(path);
    } catch (const Error& error) {
        return QString::fromStdString(error.what());
    }
    return {};
}

} // namespace qs::test
