#include <map>
#include <string>

#include "core/analysis/recipe_plan.h"
#include "core/base/error.h"
#include "core/memory/config_card.h"

namespace qs {

namespace {

/// Matrices of tensors of more than two dimensions (experts in one tensor) count one by one.
WeightGroup group_of(const TensorInfo& tensor) {
    WeightGroup group;
    group.role = tensor.role;
    group.name = to_string(tensor.role);
    group.matrix = tensor.shape.size() >= 2;
    group.columns = tensor.columns();
    if (tensor.shape.size() < 2)
        return group.rows = 1, group;
    group.rows = static_cast<std::uint64_t>(tensor.shape[tensor.shape.size() - 2]);
    group.copies = group.rows == 0 ? 0 : tensor.rows() / group.rows;
    if (tensor.transposed)
        std::swap(group.rows, group.columns);
    return group;
}

std::vector<WeightGroup> groups_of(const Checkpoint& checkpoint) {
    using Key = std::tuple<Role, std::uint64_t, std::uint64_t, bool>;
    std::map<Key, std::size_t> places;
    std::vector<WeightGroup> groups;
    for (const TensorInfo& tensor : checkpoint.tensors) {
        if (!is_parameter(tensor) || tensor.elements() == 0)
            continue;
        const WeightGroup group = group_of(tensor);
        const auto [place, added] =
            places.try_emplace(Key{group.role, group.rows, group.columns, group.matrix}, groups.size());
        if (added)
            groups.push_back(group);
        else
            groups[place->second].copies += group.copies;
    }
    return groups;
}

} // namespace

ModelCard card_from_checkpoint(const Checkpoint& checkpoint) {
    ModelCard card = dimensions_of(checkpoint);
    card.id = card.title = checkpoint.path.filename().empty() ? checkpoint.path.parent_path().filename().string()
                                                              : checkpoint.path.filename().string();
    card.source = checkpoint.path.string();
    card.weights = groups_of(checkpoint);
    card.recipe_model = recipe_view(checkpoint).model;
    if (card.weights.empty())
        throw Error(card.source, "holds no weights", "open a checkpoint with tensors, or a config.json alone");
    card.tied_embeddings = true;
    for (const WeightGroup& group : card.weights) {
        card.parameters += group.count();
        if (group.role == Role::lm_head)
            card.tied_embeddings = false;
        if (group.role == Role::token_embedding)
            card.vocabulary = static_cast<int>(group.rows);
    }
    return card;
}

} // namespace qs
