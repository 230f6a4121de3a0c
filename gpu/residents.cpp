#include "gpu/residents.h"

#include <algorithm>

namespace qs::cuda {

std::optional<ResidentKey> resident_key(const TensorView& tensor) {
    if (tensor.file == nullptr)
        return std::nullopt;
    return ResidentKey{tensor.file->id(), tensor.data, tensor.dtype, tensor.byte_swapped, tensor.shape.count()};
}

std::optional<Residents::Entry> Residents::take(const std::optional<ResidentKey>& key, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto found =
        std::ranges::find_if(idle_, [&](const Entry& entry) { return key.has_value() && entry.key == key; });
    if (found != idle_.end()) {
        Entry entry = std::move(*found);
        idle_.erase(found);
        return entry;
    }
    // A buffer of about the size is used again: allocating waits for the whole device.
    const auto fits = std::ranges::find_if(idle_, [&](const Entry& entry) {
        return entry.data.size() >= bytes && entry.data.size() / 2 <= bytes && bytes_ + bytes > limit_;
    });
    if (fits != idle_.end()) {
        Entry entry = std::move(*fits);
        idle_.erase(fits);
        entry.key = key;
        entry.loaded = false;
        return entry;
    }
    while (bytes_ + bytes > limit_ && !idle_.empty())
        forget_oldest();
    if (bytes_ + bytes > limit_)
        return std::nullopt;
    Entry entry{key, {}, false};
    entry.data.reserve(bytes);
    bytes_ += entry.data.size();
    return entry;
}

void Residents::give_back(Entry entry) {
    const std::lock_guard lock(mutex_);
    if (!entry.loaded)
        entry.key.reset();
    idle_.push_front(std::move(entry));
}

bool Residents::holds(const std::optional<ResidentKey>& key) {
    const std::lock_guard lock(mutex_);
    return key.has_value() && std::ranges::any_of(idle_, [&](const Entry& entry) { return entry.key == key; });
}

void Residents::clear() {
    const std::lock_guard lock(mutex_);
    while (!idle_.empty())
        forget_oldest();
}

void Residents::forget_oldest() {
    bytes_ -= idle_.back().data.size();
    idle_.pop_back();
}

} // namespace qs::cuda
