#pragma once

#include <QString>

#include <string>
#include <vector>

/// A float32 safetensors file written by hand, for tests that need a real checkpoint of a known shape.
struct TestTensor {
    std::string name;
    std::vector<int> shape;
};

/// Normal weights from a fixed seed; throws std::runtime_error when the file cannot be written.
void writeSafetensors(const QString& path, const std::vector<TestTensor>& tensors);

/// A decoder of `layers` layers with square projections of `width`, norms, an embedding and a head.
std::vector<TestTensor> decoder(int layers, int width);
