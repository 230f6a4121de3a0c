#pragma once

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/model/tokenizer.h"
#include "tests/core/checkpoint/made_files.h"

// Tokenizers made from the golden data.

namespace qs::test {

inline std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline const std::string golden_tokenizers = QUANTOSCOPE_GOLDEN "/tokenizers/";

inline nlohmann::json golden_json(const std::string& name) {
    return nlohmann::json::parse(read_file(golden_tokenizers + name));
}

/// The tokenizer.json of a case.
inline nlohmann::json tokenizer_of(const nlohmann::json& golden, const nlohmann::json& test) {
    nlohmann::json tokenizer = golden.at("bases").at(test.at("base").get<std::string>());
    tokenizer.update(test.at("patch"));
    tokenizer.at("model").update(test.at("model"));
    return tokenizer;
}

/// The case of a name.
inline const nlohmann::json& named_case(const nlohmann::json& golden, const std::string& name) {
    for (const auto& test : golden.at("cases"))
        if (test.at("name") == name)
            return test;
    throw Error(name, "is no case");
}

inline std::unique_ptr<Tokenizer> open_json(Files& files, const nlohmann::json& tokenizer) {
    return open_tokenizer(
        std::filesystem::path(files.write("tokenizer.json", QByteArray::fromStdString(tokenizer.dump()))));
}

/// The error of opening a file; empty if it opens.
inline QString tokenizer_refusal(const std::string& path) {
    try {
        open_tokenizer(std::filesystem::path(path));
    } catch (const Error& error) {
        return QString::fromStdString(error.what());
    }
    return {};
}

} // namespace qs::test
