#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace qs {

/// Reads the dimensions of a model out of a config.json or GGUF metadata: whole numbers under one of several names.
/// Every error names the file and the key.
class Keys {
public:
    /// `prefix` stands in front of every name (in GGUF the architecture and a dot).
    Keys(const nlohmann::json& object, std::string file, std::string prefix = {})
        : object_(object), file_(std::move(file)), prefix_(std::move(prefix)) {}

    /// The first of the names that is there and not null, as a number from 0 to 2²⁴. Throws Error for another value.
    std::optional<int> find(std::initializer_list<const char*> names) const;
    int get(std::initializer_list<const char*> names, int otherwise) const { return find(names).value_or(otherwise); }
    /// Throws Error where none is there or it is 0.
    int need(std::initializer_list<const char*> names) const;
    /// The first of the names that is there and not null, as a number. Throws Error for another value.
    std::optional<double> real(std::initializer_list<const char*> names) const;
    bool flag(const char* name, bool otherwise) const;
    std::string text(const char* name) const;
    /// The value under a name, null where it is not there.
    const nlohmann::json& value(const char* name) const;

    const std::string& file() const { return file_; }
    std::string full(const char* name) const { return prefix_ + name; }

private:
    const nlohmann::json& object_;
    std::string file_;
    std::string prefix_;
};

} // namespace qs
