#include "core/memory/keys.h"

#include "core/base/error.h"

namespace qs {

namespace {

constexpr int largest = 1 << 24;

} // namespace

const nlohmann::json& Keys::value(const char* name) const {
    static const nlohmann::json nothing;
    const auto found = object_.find(full(name));
    return found == object_.end() ? nothing : *found;
}

std::optional<int> Keys::find(std::initializer_list<const char*> names) const {
    for (const char* name : names) {
        const nlohmann::json& found = value(name);
        if (found.is_null())
            continue;
        const bool whole = found.is_number_integer() && found.get<std::int64_t>() >= 0;
        if (!whole || found.get<std::uint64_t>() > largest)
            throw Error(file_, "'" + full(name) + "' is " + found.dump().substr(0, 60) +
                                   ", not a whole number from 0 to " + std::to_string(largest));
        return found.get<int>();
    }
    return std::nullopt;
}

int Keys::need(std::initializer_list<const char*> names) const {
    const auto found = find(names);
    if (!found || *found == 0)
        throw Error(file_, "does not say '" + full(*names.begin()) + "', which the dimensions of a model depend on");
    return *found;
}

std::optional<double> Keys::real(std::initializer_list<const char*> names) const {
    for (const char* name : names) {
        const nlohmann::json& found = value(name);
        if (found.is_null())
            continue;
        if (!found.is_number())
            throw Error(file_, "'" + full(name) + "' is " + found.dump().substr(0, 60) + ", not a number");
        return found.get<double>();
    }
    return std::nullopt;
}

bool Keys::flag(const char* name, bool otherwise) const {
    const nlohmann::json& found = value(name);
    return found.is_boolean() ? found.get<bool>() : otherwise;
}

std::string Keys::text(const char* name) const {
    const nlohmann::json& found = value(name);
    return found.is_string() ? found.get<std::string>() : std::string();
}

} // namespace qs
