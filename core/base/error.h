#pragma once

#include <stdexcept>
#include <string>

namespace qs {

/// The one exception of the library: what failed, where (file, tensor or option), and what to do about it.
/// Thrown where the fault is found, caught at a boundary (a command, a job).
class Error : public std::runtime_error {
public:
    /// `where` names a file, a tensor or an option; `what` is a sentence without a full stop; `remedy` may be empty.
    Error(std::string where, std::string what, std::string remedy = {})
        : std::runtime_error(compose(where, what, remedy)), where_(std::move(where)), reason_(std::move(what)),
          remedy_(std::move(remedy)) {}

    const std::string& where() const { return where_; }
    const std::string& reason() const { return reason_; }
    const std::string& remedy() const { return remedy_; }

private:
    static std::string compose(const std::string& where, const std::string& what, const std::string& remedy) {
        std::string text = where.empty() ? what : where + ": " + what;
        return remedy.empty() ? text : text + "; " + remedy;
    }

    std::string where_;
    std::string reason_;
    std::string remedy_;
};

/// Thrown out of a computation whose JobControl was cancelled. Not an Error: nothing is wrong.
class Cancelled : public std::exception {
public:
    const char* what() const noexcept override { return "cancelled"; }
};

} // namespace qs
