#include <QTest>

#include "core/export/tensor_rules.h"
#include "tests/core/checkpoint/made_files.h"

using namespace qs;
using namespace qs::test;

class TestTensorRules : public QObject {
    Q_OBJECT

    Files files_;

private slots:
    void tensor_types() {
        const auto rules = parse_tensor_types("attn_v=q6_K, ffn_down=Q8_0\n blk\\.\\d{1,2}\\.ffn_up=f16,\n\n", "rules");
        QCOMPARE(rules.size(), std::size_t{3});
        QCOMPARE(rules[0].format.id, std::string("q6_K"));
        QVERIFY(rules[0].matches("blk.0.attn_v.weight") && !rules[0].matches("blk.0.attn_q.weight"));
        QCOMPARE(rules[1].format.id, std::string("q8_0"));
        QCOMPARE(rules[2].format.id, std::string("fp16"));
        QVERIFY(rules[2].matches("blk.12.ffn_up.weight") && !rules[2].matches("blk.123.ffn_up.weight"));
        QVERIFY(parse_tensor_types("", "rules").empty());
    }

    void refuses_wrong_rules() {
        const auto refusal = [](const char* text) {
            return failure([&] { parse_tensor_types(text, "--tensor-type"); });
        };
        QVERIFY2(refusal("attn_v").startsWith("--tensor-type: rule 'attn_v' is not PATTERN=TYPE"), "no type");
        QVERIFY(refusal("=q4_K").contains("is not PATTERN=TYPE"));
        QVERIFY(refusal("attn_v=q9_K").startsWith("--tensor-type: rule 'attn_v': format 'q9_K'"));
        QVERIFY(refusal("attn_v=Q4_K_M").contains("names the recipe Q4_K_M"));
        QVERIFY(refusal("attn_(v=q4_K").contains("rule 'attn_(v'"));
    }

    void recipe_files() {
        const RecipeFile json = read_recipe_file(files_.write("a.json", R"( {"format": "Q4_K_M", "tensors": {
            "blk.0.*": "q8_0", "/attn_[kv]\\./": "F16", "model.layers.1.mlp.up_proj.weight": "nf4:block=128"}})"));
        QCOMPARE(json.format->id, std::string("Q4_K_M"));
        QCOMPARE(json.rules.size(), std::size_t{3});
        QVERIFY(json.rules[0].matches("blk.0.attn_q.weight") && !json.rules[0].matches("xblk.0.attn_q.weight"));
        QVERIFY(json.rules[1].matches("blk.7.attn_k.weight") && !json.rules[1].matches("blk.7.attn_q.weight"));
        QCOMPARE(json.rules[1].format.id, std::string("fp16"));
        QCOMPARE(json.rules[2].format.text(), std::string("nf4:block=128"));
        const RecipeFile lines = read_recipe_file(files_.write("a.txt", "attn_v=q6_k\nffn_down=q5_K\n"));
        QVERIFY(!lines.format);
        QCOMPARE(lines.rules.size(), std::size_t{2});
    }

    void refuses_wrong_recipe_files_data() {
        QTest::addColumn<QByteArray>("content");
        QTest::addColumn<QString>("what");
        QTest::addRow("broken") << QByteArray("{\"format\": ") << "is no JSON object";
        QTest::addRow("empty") << QByteArray("{}") << "names no format";
        QTest::addRow("nothing") << QByteArray("\n") << "holds no recipe";
        QTest::addRow("entry") << QByteArray("{\"formats\": \"q4_K\"}") << "has the entry 'formats'";
        QTest::addRow("format") << QByteArray("{\"format\": \"q4_X\"}") << "'format': format 'q4_X': is not known";
        QTest::addRow("number") << QByteArray("{\"tensors\": {\"a\": 4}}") << "'a' is 4, not the name of a format";
        QTest::addRow("list") << QByteArray("{\"tensors\": []}") << "'tensors' is no object";
        QTest::addRow("type") << QByteArray("{\"tensors\": {\"a*\": \"q4\"}}") << "rule 'a*': format 'q4'";
    }
    void refuses_wrong_recipe_files() {
        QFETCH(QByteArray, content);
        QFETCH(QString, what);
        const std::string path = files_.write("wrong.json", content);
        const QString refusal = failure([&] { read_recipe_file(path); });
        QVERIFY2(refusal.contains(what) && refusal.contains("wrong.json"), qPrintable(refusal));
    }
};

QTEST_GUILESS_MAIN(TestTensorRules)
#include "test_tensor_rules.moc"
