#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "core/base/error.h"

namespace qs {

/// A value of a JSON document that is neither object nor array.
struct JsonScalar {
    enum class Kind { unsigned_integer, string, other } kind = Kind::other;
    std::uint64_t number = 0;
    std::string* text = nullptr; ///< may be moved from
};

/// Walks a JSON document without building it (nlohmann's SAX interface), so that a header of a hundred thousand
/// tensors costs no tree. `Handler` derives from it and has on_key(std::string&), on_begin(bool object), on_end() and
/// on_scalar(const JsonScalar&); they throw Error where the document is not what it should be.
template <class Handler>
class JsonWalker {
public:
    JsonWalker(std::string file, std::string subject) : file_(std::move(file)), subject_(std::move(subject)) {}

    /// Walks the whole of `text`; throws Error naming the file where it is not JSON.
    void walk(std::string_view text) {
        // The lexer takes a NUL byte for the end of the document and would not see what follows it.
        if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos)
            fail("has a NUL byte at byte " + std::to_string(nul));
        nlohmann::json::sax_parse(text.data(), text.data() + text.size(), &handler());
    }

    bool null() { return scalar({}); }
    bool boolean(bool) { return scalar({}); }
    bool number_integer(std::int64_t) { return scalar({}); }
    bool number_unsigned(std::uint64_t value) { return scalar({JsonScalar::Kind::unsigned_integer, value, nullptr}); }
    bool number_float(double, const std::string&) { return scalar({}); }
    bool string(std::string& value) { return scalar({JsonScalar::Kind::string, 0, &value}); }
    bool binary(nlohmann::json::binary_t&) { return scalar({}); }
    bool start_object(std::size_t) { return begin(true); }
    bool start_array(std::size_t) { return begin(false); }
    bool end_object() { return end(); }
    bool end_array() { return end(); }

    bool key(std::string& text) {
        if (!skipping())
            handler().on_key(text);
        return true;
    }

    bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) {
        throw Error(file_, subject_ + " is not valid JSON at byte " + std::to_string(position));
    }

protected:
    /// How many objects and arrays are open.
    int depth() const { return depth_; }
    /// To be called in on_key(): the value that follows is of no interest.
    void skip_value() { skip_depth_ = depth_; }

    [[noreturn]] void fail(const std::string& reason) const { throw Error(file_, subject_ + " " + reason); }

private:
    static constexpr int deepest = 64;

    Handler& handler() { return static_cast<Handler&>(*this); }
    bool skipping() const { return skip_depth_ != 0; }

    bool scalar(const JsonScalar& value) {
        if (!skipping())
            handler().on_scalar(value);
        else if (depth_ == skip_depth_)
            skip_depth_ = 0;
        return true;
    }

    bool begin(bool object) {
        if (++depth_ > deepest)
            fail("is nested deeper than " + std::to_string(deepest) + " levels");
        if (!skipping())
            handler().on_begin(object);
        return true;
    }

    bool end() {
        --depth_;
        if (!skipping())
            handler().on_end();
        else if (depth_ == skip_depth_)
            skip_depth_ = 0;
        return true;
    }

    std::string file_;
    std::string subject_;
    int depth_ = 0;
    int skip_depth_ = 0;
};

} // namespace qs
