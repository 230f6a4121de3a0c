#include <QDir>
#include <QFile>
#include <QTest>

#include <cmath>

#include "core/base/half.h"
#include "core/export/layout.h"
#include "core/export/packing.h"
#include "core/export/stored_values.h"
#include "core/formats/registry.h"
#include "tests/core/export/layout_readers.h"

using namespace qs;
using namespace qs::test;

namespace {

constexpr std::size_t rows = 64, columns = 256;

} // namespace

/// Integers packed by AutoGPTQ and AutoAWQ, and the state that bitsandbytes saves (golden/more of the shared data).
class TestPacking : public QObject {
    Q_OBJECT

private:
    QDir folder_{QStringLiteral(QUANTOSCOPE_SHARED_DATA "/golden/more")};

    template <class T>
    std::vector<T> read(const QString& name) const {
        QFile file(folder_.filePath(name));
        const QByteArray bytes = file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
        std::vector<T> values(static_cast<std::size_t>(bytes.size()) / sizeof(T));
        std::memcpy(values.data(), bytes.constData(), values.size() * sizeof(T));
        return values;
    }

    /// The grid behind the reference's dequantized weights.
    IntegerGrid grid_of(const QString& name, int bits, const std::function<float(std::size_t, std::size_t)>& zero) {
        IntegerGrid grid;
        grid.bits = bits;
        grid.rows = rows;
        grid.columns = columns;
        const auto scales = read<std::uint16_t>(name + ".scales.f16.bin");
        const auto weights = read<float>(name + ".deq.f32");
        grid.groups = scales.size() / rows;
        for (std::size_t row = 0; row < rows; ++row)
            for (std::size_t group = 0; group < grid.groups; ++group) {
                grid.scales.push_back(scales[group * rows + row]);
                grid.zeros.push_back(zero(row, group));
            }
        const std::size_t group_columns = columns / grid.groups;
        for (std::size_t i = 0; i < weights.size(); ++i) {
            const std::size_t at = i / columns * grid.groups + i % columns / group_columns;
            grid.codes.push_back(
                static_cast<std::uint8_t>(std::lround(weights[i] / fp16_to_float(grid.scales[at]) + grid.zeros[at])));
        }
        return grid;
    }

private slots:
    void initTestCase() {
        if (!folder_.exists("MANIFEST.json"))
            QSKIP("no reference bytes in " QUANTOSCOPE_SHARED_DATA "/golden/more");
    }

    void gptq_data() {
        QTest::addColumn<QString>("name");
        QTest::addColumn<int>("bits");
        QTest::newRow("8") << "gptqpack_b8_g128_asym" << 8;
        QTest::newRow("4") << "gptqpack_b4_g128_asym" << 4;
        QTest::newRow("4 symmetric") << "gptqpack_b4_g128_sym" << 4;
        QTest::newRow("3") << "gptqpack_b3_g64_asym" << 3;
        QTest::newRow("2") << "gptqpack_b2_g64_asym" << 2;
    }

    void gptq() {
        QFETCH(QString, name);
        QFETCH(int, bits);
        const auto packed_zeros = read<std::uint32_t>(name + ".qzeros.i32.bin");
        const auto width = static_cast<unsigned>(bits);
        const IntegerGrid grid = grid_of(name, bits, [&](std::size_t row, std::size_t group) {
            return static_cast<float>(stream_code(packed_zeros.data() + group * rows * width / 32, 1, row, width) + 1);
        });
        QVERIFY(gptq_weight(grid) == read<std::uint32_t>(name + ".qweight.i32.bin"));
        QVERIFY(gptq_zeros(grid, 1) == packed_zeros);
        QVERIFY(gptq_zeros(grid, 0) != packed_zeros);
        QVERIFY(scales_by_group(grid) == read<std::uint16_t>(name + ".scales.f16.bin"));
    }

    void awq() {
        const QString name = "awqpack_b4_g128";
        const auto packed_zeros = read<std::uint32_t>(name + ".qzeros.i32.bin");
        const IntegerGrid grid = grid_of(name, 4, [&](std::size_t row, std::size_t group) {
            constexpr unsigned nibble_of[8] = {0, 4, 1, 5, 2, 6, 3, 7};
            return static_cast<float>(packed_zeros[group * rows / 8 + row / 8] >> (4 * nibble_of[row % 8]) & 15U);
        });
        QVERIFY(awq_weight(grid) == read<std::uint32_t>(name + ".qweight.i32.bin"));
        QVERIFY(awq_zeros(grid) == packed_zeros);
        QVERIFY(scales_by_group(grid) == read<std::uint16_t>(name + ".scales.f16.bin"));
    }

    /// All but the type that weights had before, which was float32 there; what lengths differ in are spaces.
    void bitsandbytes_state() {
        const auto weights = read<float>("in_a_normal_16x1024.f32");
        if (weights.empty())
            QSKIP("no input in golden/more");
        for (const char* type : {"nf4", "fp4"}) {
            const FormatSpec format = parse_spec(std::string(type) + ":dq");
            const TensorShape shape{16, 1024};
            const auto codec = bind_codec(format, shape);
            codec->scan(weights.data(), 0, weights.size());
            codec->finish_scan();
            MethodResult result;
            result.format = format;
            result.stored = codec->store(weights.data());
            const LinearTensor tensor{0, "a.weight", Role::other, 0, 16, 1024};
            const auto layout = make_bitsandbytes_layout({{format}, "F16"});
            const std::string name = std::string("a.weight.quant_state.bitsandbytes__") + type;
            std::string state;
            for (const auto& [tensor_name, bytes] : layout->tensors(tensor, result))
                if (tensor_name == name)
                    state.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
            for (const SafetensorsEntry& entry : layout->entries(tensor))
                if (entry.name == name)
                    QCOMPARE(entry.bytes, state.size());
            state.erase(state.find_last_not_of(' ') + 1);
            QByteArray expected;
            for (const char c : read<char>(QString("bnb_%1_bs64_a.dq.packed_quant_state.bin").arg(type)))
                expected += c;
            expected.replace("\"dtype\": \"float32\", \"shape", "\"dtype\": \"float16\", \"shape");
            // The offset's last bit may differ: it is a mean.
            const auto offset = [](const QByteArray& text) { return text.indexOf("nested_offset"); };
            const QByteArray found = QByteArray::fromStdString(state);
            QCOMPARE(found.left(offset(found)), expected.left(offset(expected)));
            const auto found_json = nlohmann::json::parse(state), expected_json = nlohmann::json::parse(expected);
            QVERIFY(std::abs(found_json["nested_offset"].get<float>() - expected_json["nested_offset"].get<float>()) <
                    1e-8F);
        }
    }
};

QTEST_GUILESS_MAIN(TestPacking)
#include "test_packing.moc"
