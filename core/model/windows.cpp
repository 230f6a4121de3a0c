#include "core/model/windows.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "core/base/error.h"

namespace qs {

namespace {

constexpr std::string_view white_space = " \t\n\v\f\r";

std::string_view stripped(std::string_view text) {
    const std::size_t first = text.find_first_not_of(white_space);
    return first == std::string_view::npos ? std::string_view()
                                           : text.substr(first, text.find_last_not_of(white_space) - first + 1);
}

std::vector<int> parse_numbers(std::string_view text, const std::string& file) {
    std::vector<int> numbers;
    while (true) {
        text.remove_prefix(std::min(text.size(), text.find_first_not_of(" \t\n\v\f\r,[]")));
        if (text.empty())
            return numbers;
        int number = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
        if (error != std::errc() || number < 0)
            throw Error(file, "is not a list of token ids: '" + std::string(text.substr(0, 20)) + "'");
        numbers.push_back(number);
        text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    }
}

} // namespace

std::vector<std::vector<int>> cut_windows(std::span<const int> ids, std::span<const int> front, Index context) {
    const auto length = static_cast<std::size_t>(context) - front.size();
    std::vector<std::vector<int>> windows;
    for (std::size_t begin = 0; begin < ids.size(); begin += length) {
        const auto part = ids.subspan(begin, std::min(length, ids.size() - begin));
        if (front.size() + part.size() < 2)
            break;
        std::vector<int>& window = windows.emplace_back(front.begin(), front.end());
        window.insert(window.end(), part.begin(), part.end());
    }
    return windows;
}

std::vector<std::string_view> split_documents(std::string_view text, std::string_view separator) {
    std::vector<std::string_view> documents;
    for (std::size_t begin = 0; begin <= text.size();) {
        const std::size_t end = std::min(text.find(separator, begin), text.size());
        if (const auto document = stripped(text.substr(begin, end - begin)); !document.empty())
            documents.push_back(document);
        begin = end + separator.size();
    }
    return documents;
}

std::vector<std::vector<int>> parse_ids(std::string_view text, const std::string& file) {
    const nlohmann::json json = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
    if (!json.is_array() || json.empty() || !json.front().is_array())
        return {parse_numbers(text, file)};
    std::vector<std::vector<int>> documents;
    for (const nlohmann::json& document : json)
        documents.push_back(parse_numbers(document.dump(), file));
    return documents;
}

} // namespace qs
