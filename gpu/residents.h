#pragma once

#include <compare>
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <utility>

#include "core/device/device.h"
#include "gpu/cuda.h"

namespace qs::cuda {

/// What tells one tensor of an open file from all others that the process ever maps.
struct ResidentKey {
    std::uint64_t file;
    const std::byte* data;
    DType dtype;
    bool byte_swapped;
    std::uint64_t count;
    bool operator==(const ResidentKey&) const = default;
};

/// The key of a tensor; nothing for one that lies in no mapped file, whose bytes may change.
std::optional<ResidentKey> resident_key(const TensorView& tensor);

/// Tensors that stay on one device after they were worked on, so that the next look at them copies nothing; those not
/// used for longest make room. A tensor that somebody works on is out of the cache until it is given back.
class Residents {
public:
    struct Entry {
        std::optional<ResidentKey> key; ///< none: nobody will ask for it again
        DeviceBuffer data;
        bool loaded = false; ///< all of the tensor is there
    };

    /// At most `limit` bytes are kept.
    explicit Residents(std::size_t limit) : limit_(limit) {}

    /// The tensor if it is there, else an entry with room for its `bytes`; null where they do not fit.
    std::optional<Entry> take(const std::optional<ResidentKey>& key, std::size_t bytes);
    void give_back(Entry entry);
    /// Whether the tensor is there; it may be gone when it is taken.
    bool holds(const std::optional<ResidentKey>& key);
    /// Forgets all tensors that nobody works on.
    void clear();

private:
    void forget_oldest();

    std::mutex mutex_;
    std::size_t limit_, bytes_ = 0; ///< of all entries, those that are worked on too
    std::list<Entry> idle_;         ///< the one used last is the first
};

} // namespace qs::cuda
