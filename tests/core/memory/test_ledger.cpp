#include <QTest>

#include "core/base/error.h"
#include "core/formats/registry.h"
#include "core/memory/ledger.h"

using namespace qs;

namespace {

double line(const Ledger& ledger, const std::string& name) {
    for (const LedgerLine& entry : ledger.lines)
        if (entry.name == name)
            return entry.bytes;
    return -1;
}

Ledger ledger(const char* card, const char* spec, const MemoryOptions& options = {}) {
    return inference_ledger(model_card(card), parse_spec(spec), options);
}

} // namespace

/// The ledger against examples worked by hand.
class LedgerTest : public QObject {
    Q_OBJECT

private slots:
    void textbook_table_data() {
        QTest::addColumn<QString>("card");
        QTest::addColumn<QString>("format");
        QTest::addColumn<double>("gigabytes");
        const struct {
            const char* id;
            double sizes[4];
        } cards[] = {{"7B", {28, 14, 7, 3.5}}, {"13B", {52, 26, 13, 6.5}}, {"70B", {280, 140, 70, 35}}};
        const char* formats[][3] = {
            {"fp32", "fp32", "fp32"}, {"fp16", "bf16", "bf16"}, {"int8", "fp8_e4m3", "q8_0"}, {"int4", "nf4", "q4_0"}};
        for (const auto& card : cards)
            for (int bits = 0; bits < 4; ++bits)
                for (const char* format : formats[bits])
                    QTest::addRow("%s %s", card.id, format) << card.id << format << card.sizes[bits];
    }

    void textbook_table() {
        QFETCH(QString, card);
        QFETCH(QString, format);
        QFETCH(double, gigabytes);
        const Ledger counted = ledger(card.toUtf8(), format.toUtf8());
        QCOMPARE(counted.naive_bytes, gigabytes * 1e9);
        QVERIFY(counted.weight_bytes > 0 && counted.weight_bytes != counted.naive_bytes);
        QVERIFY(QString::fromStdString(counted.difference).contains("round number"));
    }

    void lines_have_their_names() {
        const Ledger counted = ledger("llama-2-7b", "nf4");
        const char* names[] = {"linear weights", "embedding weights", "head weights",    "norm weights",
                               "kv cache",       "activations",       "runtime overhead"};
        QCOMPARE(counted.lines.size(), std::size(names));
        double sum = 0;
        for (std::size_t i = 0; i < std::size(names); ++i) {
            QCOMPARE(counted.lines[i].name, std::string(names[i]));
            QVERIFY(!counted.lines[i].formula.empty());
            sum += counted.lines[i].bytes;
        }
        QCOMPARE(counted.total_bytes, sum);
    }

    /// Microscaling checkpoints keep embeddings, norms and head in 16 bits; blocks of 32 divide all rows of Llama 2 7B.
    void microscaling() {
        for (const auto& [format, bits] : {std::pair("mxfp8_e4m3", 8.25), {"mxfp6_e2m3", 6.25}, {"mxfp4", 4.25}}) {
            const Ledger counted = ledger("llama-2-7b", format);
            QCOMPARE(line(counted, "linear weights"), 32 * (4 * 4096.0 * 4096 + 3 * 4096.0 * 11008) * bits / 8);
            QCOMPARE(line(counted, "embedding weights"), 32000.0 * 4096 * 2);
            QCOMPARE(line(counted, "head weights"), 32000.0 * 4096 * 2);
        }
        QCOMPARE(line(ledger("llama-2-7b", "nvfp4"), "linear weights"),
                 32 * (4 * 4096.0 * 4096 + 3 * 4096.0 * 11008) * 4.5 / 8 + 32 * 7 * 4);
        QCOMPARE(ledger("7B", "mxfp4").naive_bytes, 3.5e9);
    }

    /// Llama 2 7B in nf4 with double quantization: 4 bits, a byte per 64, a float per 64·256, a float per tensor.
    void nf4_with_double_quantization() {
        const Ledger counted = ledger("llama-2-7b", "nf4:dq");
        const auto matrix = [](double rows, double columns) {
            const double weights = rows * columns, blocks = weights / 64;
            return weights / 2 + blocks + 4 * blocks / 256 + 4;
        };
        const double expected = 32 * (4 * matrix(4096, 4096) + 3 * matrix(11008, 4096));
        QCOMPARE(line(counted, "linear weights"), expected);
        QCOMPARE(line(counted, "embedding weights"), 32000.0 * 4096 * 2);
        QCOMPARE(line(counted, "head weights"), 32000.0 * 4096 * 2);
        QCOMPARE(line(counted, "norm weights"), 65.0 * 4096 * 2);
    }

    void bitsandbytes_leaves_embeddings_and_head() {
        MemoryOptions all;
        all.quantize_embeddings = all.quantize_head = true;
        QCOMPARE(line(ledger("llama-2-7b", "nf4", all), "embedding weights"), 32000.0 * 4096 * 4.5 / 8);
        QCOMPARE(line(ledger("llama-2-7b", "nf4", all), "head weights"), 32000.0 * 4096 * 4.5 / 8);
    }

    /// llama-quantize's Q4_0 file of Llama 2 7B: embedding in the type, head in Q6_K, norms in float32.
    void ggml_mixture() {
        const Ledger counted = ledger("llama-2-7b", "q4_0");
        QCOMPARE(line(counted, "linear weights"), 32.0 * (4.0 * 4096 * 4096 + 3.0 * 4096 * 11008) * 18 / 32);
        QCOMPARE(line(counted, "embedding weights"), 32000.0 * 4096 * 18 / 32);
        QCOMPARE(line(counted, "head weights"), 32000.0 * 4096 * 210 / 256);
        QCOMPARE(line(counted, "norm weights"), 65.0 * 4096 * 4);
        // The published file llama-2-7b.Q4_0.gguf has 3,825,807,040 bytes of tensors and metadata.
        QVERIFY(std::abs(counted.weight_bytes - 3825807040.0) < 2e6);
        // A tied embedding is the head.
        QCOMPARE(line(ledger("llama-3.2-1b", "q4_0"), "embedding weights"), 128256.0 * 2048 * 210 / 256);
        QCOMPARE(line(ledger("llama-3.2-1b", "q4_0"), "head weights"), 0.0);
    }

    void kv_cache_of_grouped_queries() {
        MemoryOptions options;
        options.context = 8192;
        // 80 layers · 8192 tokens · 8 heads · (128 + 128) · 2 bytes
        QCOMPARE(line(ledger("llama-2-70b", "nf4", options), "kv cache"), 80.0 * 8192 * 8 * 256 * 2);
        options.kv_cache = "q8_0";
        options.batch = 3;
        QCOMPARE(line(ledger("llama-2-70b", "nf4", options), "kv cache"), 3 * 80.0 * 8192 * 8 * 256 * 34 / 32);
        options.kv_cache = "q4_0";
        QCOMPARE(line(ledger("llama-2-70b", "nf4", options), "kv cache"), 3 * 80.0 * 8192 * 8 * 256 * 18 / 32);
        options.kv_cache = "fp7";
        QVERIFY_THROWS_EXCEPTION(Error, ledger("llama-2-70b", "nf4", options));
    }

    void kv_cache_of_windows() {
        MemoryOptions options;
        options.context = 16384;
        QCOMPARE(line(ledger("mistral-7b", "nf4", options), "kv cache"), 32.0 * 4096 * 8 * 256 * 2);
        options.context = 8192;
        QCOMPARE(line(ledger("gemma-2-9b", "nf4", options), "kv cache"),
                 (21.0 * 8192 + 21.0 * 4096) * 8 * (256 + 256) * 2);
        options.context = 1000; // shorter than the window
        QCOMPARE(line(ledger("mistral-7b", "nf4", options), "kv cache"), 32.0 * 1000 * 8 * 256 * 2);
    }

    void experts_count_as_weights() {
        const double experts = 32.0 * 8 * 3 * 4096 * 14336, attention = 32.0 * (2.0 * 4096 * 4096 + 2.0 * 1024 * 4096);
        QCOMPARE(line(ledger("mixtral-8x7b", "q8_0"), "linear weights"),
                 (experts + attention) * 34 / 32 + 32.0 * 8 * 4096 * 4); // llama.cpp keeps routers in float32
        QCOMPARE(line(ledger("mixtral-8x7b", "nf4"), "linear weights"),
                 (experts + attention + 32.0 * 8 * 4096) * 4.5 / 8);
    }

    void activations_with_and_without_flash_attention() {
        MemoryOptions options;
        options.context = 1024;
        const double flash = 1024 * (2.0 * 4096 + 2.0 * 11008) * 2 + 32000 * 4.0;
        QCOMPARE(line(ledger("llama-2-7b", "nf4", options), "activations"), flash);
        options.flash_attention = false;
        QCOMPARE(line(ledger("llama-2-7b", "nf4", options), "activations"), flash + 1024.0 * 1024 * 32 * 4);
    }

    void what_fits() {
        const Gpu& card = find_gpu("RTX 4090");
        const MemoryOptions options;
        for (const char* spec : {"fp16", "nf4", "fp32"}) {
            const Fit found = fit(card, model_card("llama-2-7b"), parse_spec(spec), options);
            MemoryOptions longest = options;
            longest.context = std::max<std::uint64_t>(1, found.max_context);
            const double at = ledger("llama-2-7b", spec, longest).total_bytes;
            ++longest.context;
            const double beyond = ledger("llama-2-7b", spec, longest).total_bytes;
            QCOMPARE(found.max_context > 0, at <= card.bytes);
            QVERIFY(found.max_context == 0 || beyond > card.bytes);
            QCOMPARE(found.fits, ledger("llama-2-7b", spec).total_bytes <= card.bytes);
        }
        QCOMPARE(fit(find_gpu("RTX 3050 Laptop"), model_card("llama-2-70b"), parse_spec("nf4"), options).max_context,
                 std::uint64_t{0});
    }

    void the_best_that_fits() {
        const auto specs = parse_specs("fp32,bf16,int8,nf4");
        const MemoryOptions options;
        QCOMPARE(best_fitting(find_gpu("RTX 4090"), model_card("llama-2-7b"), specs, options)->id, std::string("bf16"));
        QCOMPARE(best_fitting(find_gpu("RTX 3070"), model_card("llama-2-7b"), specs, options)->id, std::string("nf4"));
        QVERIFY(!best_fitting(find_gpu("RTX 3070"), model_card("llama-2-70b"), specs, options));
    }
};

QTEST_GUILESS_MAIN(LedgerTest)
#include "test_ledger.moc"
