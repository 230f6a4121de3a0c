#include <QtTest>

#include <algorithm>
#include <bit>

#include "coding.h"
#include "core/base/error.h"
#include "core/formats/load.h"

using namespace qs;
using namespace qs::test;

/// Stored tensors as float32, whole and in parts, in both byte orders.
class TestLoad : public QObject {
    Q_OBJECT

private slots:
    void plainTypes();
    void blockTypes_data();
    void blockTypes();
    void refused();
};

/// The bytes of words, each reversed for a big-endian file.
template <class Word>
std::vector<std::byte> bytes_of(const std::vector<Word>& words, bool swapped) {
    std::vector<std::byte> bytes(words.size() * sizeof(Word));
    std::memcpy(bytes.data(), words.data(), bytes.size());
    for (std::size_t at = 0; swapped && at < bytes.size(); at += sizeof(Word))
        std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                     bytes.begin() + static_cast<std::ptrdiff_t>(at + sizeof(Word)));
    return bytes;
}

/// Loads the bytes whole and in odd parts.
void check_loaded(DType dtype, bool swapped, const std::vector<std::byte>& bytes, const std::vector<float>& expected) {
    std::vector<float> loaded(expected.size());
    load_weights(dtype, swapped, bytes.data(), 0, loaded.size(), loaded.data());
    QVERIFY(std::equal(loaded.begin(), loaded.end(), expected.begin(), same_value));
    for (std::size_t begin = 0, length = 1; begin < expected.size(); begin += length, length = length * 2 + 5) {
        const std::size_t count = std::min(length, expected.size() - begin);
        std::vector<float> part(count);
        load_weights(dtype, swapped, bytes.data(), begin, count, part.data());
        QVERIFY(
            std::equal(part.begin(), part.end(), expected.begin() + static_cast<std::ptrdiff_t>(begin), same_value));
    }
}

void TestLoad::plainTypes() {
    std::vector<std::uint16_t> halves(65536);
    for (std::size_t i = 0; i < halves.size(); ++i)
        halves[i] = static_cast<std::uint16_t>(i);
    std::vector<float> fp16, bf16, e4m3, e5m2;
    for (const std::uint16_t half : halves) {
        fp16.push_back(fp16_to_float(half));
        bf16.push_back(bf16_to_float(half));
    }
    std::vector<std::uint8_t> codes(256);
    for (std::size_t i = 0; i < codes.size(); ++i) {
        codes[i] = static_cast<std::uint8_t>(i);
        e4m3.push_back(fp8_to_float<E4M3>(codes[i]));
        e5m2.push_back(fp8_to_float<E5M2>(codes[i]));
    }
    std::mt19937 random(20);
    const std::vector<float> floats = random_weights({10, 77}, random);
    std::vector<std::uint32_t> words;
    std::vector<std::uint64_t> doubles;
    for (const float w : floats) {
        words.push_back(float_bits(w));
        doubles.push_back(std::bit_cast<std::uint64_t>(static_cast<double>(w) * (1 + 1e-12)));
    }
    for (const bool swapped : {false, true}) {
        check_loaded(DType::f16, swapped, bytes_of(halves, swapped), fp16);
        check_loaded(DType::bf16, swapped, bytes_of(halves, swapped), bf16);
        check_loaded(DType::f32, swapped, bytes_of(words, swapped), floats);
        check_loaded(DType::f64, swapped, bytes_of(doubles, swapped), floats);
        check_loaded(DType::f8_e4m3, swapped, bytes_of(codes, false), e4m3);
        check_loaded(DType::f8_e5m2, swapped, bytes_of(codes, false), e5m2);
    }
}

void TestLoad::blockTypes_data() {
    QTest::addColumn<int>("dtype");
    QTest::addColumn<int>("block_bytes");
    QTest::addColumn<int>("halves");
    QTest::newRow("q4_0") << static_cast<int>(DType::q4_0) << 18 << 1;
    QTest::newRow("q4_1") << static_cast<int>(DType::q4_1) << 20 << 2;
    QTest::newRow("q5_0") << static_cast<int>(DType::q5_0) << 22 << 1;
    QTest::newRow("q5_1") << static_cast<int>(DType::q5_1) << 24 << 2;
    QTest::newRow("q8_0") << static_cast<int>(DType::q8_0) << 34 << 1;
}

/// What a format stores is read back as what it decoded. Big-endian files swap the float16 fields only.
void TestLoad::blockTypes() {
    QFETCH(int, dtype);
    QFETCH(int, block_bytes);
    QFETCH(int, halves);
    std::mt19937 random(21);
    const TensorShape shape{11, 96};
    const Coded coded = code_matrix(parse_spec(QTest::currentDataTag()), random_weights(shape, random), shape);
    std::vector<std::byte> bytes = coded.array("blocks.u8")->bytes;
    check_loaded(static_cast<DType>(dtype), false, bytes, coded.decoded);
    for (std::size_t block = 0; block < bytes.size(); block += static_cast<std::size_t>(block_bytes))
        for (std::size_t half = 0; half < static_cast<std::size_t>(halves); ++half)
            std::swap(bytes[block + 2 * half], bytes[block + 2 * half + 1]);
    check_loaded(static_cast<DType>(dtype), true, bytes, coded.decoded);
}

void TestLoad::refused() {
    const std::vector<std::byte> bytes(64);
    float out[4];
    for (const DType dtype : {DType::i8, DType::u8, DType::i64, DType::boolean, DType::unsupported})
        QVERIFY_EXCEPTION_THROWN(load_weights(dtype, false, bytes.data(), 0, 4, out), Error);
}

QTEST_GUILESS_MAIN(TestLoad)
#include "test_load.moc"
