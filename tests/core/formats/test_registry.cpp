#include <QtTest>

#include <map>
#include <random>

#include "core/base/error.h"
#include "core/formats/registry.h"

using namespace qs;

/// The table of formats and the text of specs.
class TestRegistry : public QObject {
    Q_OBJECT

private slots:
    void table();
    void canonicalText_data();
    void canonicalText();
    void randomRoundTrip();
    void lists();
    void errors_data();
    void errors();
    void fallback();
    void nominalBits_data();
    void nominalBits();
};

void TestRegistry::table() {
    const QString expected = "fp32 tf32 bf16 fp16 fp8_e4m3 fp8_e5m2 "
                             "int8 int4 int3 int2 "
                             "llm_int8 nf4 fp4 dynamic8 "
                             "q4_0 q4_1 q5_0 q5_1 q8_0 "
                             "q2_K q3_K q4_K q5_K q6_K iq4_nl iq4_xs "
                             "iq1_s iq1_m iq2_xxs iq2_xs iq2_s iq3_xxs iq3_s "
                             "tq1_0 tq2_0 q1_0 q2_0 mxfp4_ggml nvfp4_ggml "
                             "mxfp8_e4m3 mxfp8_e5m2 mxfp6_e3m2 mxfp6_e2m3 mxfp4 mxint8 nvfp4";
    QStringList ids;
    for (const Format& entry : formats()) {
        ids << QString::fromStdString(entry.id);
        QCOMPARE(&format(entry.id), &entry);
        for (const std::string* text : {&entry.family, &entry.title, &entry.scale, &entry.source, &entry.ecosystem})
            QVERIFY2(!text->empty(), entry.id.c_str());
        const FormatSpec spec = parse_spec(entry.id);
        QCOMPARE(spec.text(), entry.id);
        for (const FormatParameter& parameter : entry.parameters) {
            QCOMPARE(spec.parameters.at(parameter.name), parameter.default_value);
            QVERIFY(!parameter.help.empty());
        }
    }
    QCOMPARE(ids.join(' '), expected);
}

void TestRegistry::canonicalText_data() {
    QTest::addColumn<QString>("text");
    QTest::addColumn<QString>("canonical");
    const auto row = [](const char* text, const char* canonical) { QTest::newRow(text) << text << canonical; };
    row("nf4:block=128,dq", "nf4:block=128,dq");
    row("nf4:dq=1,block=128", "nf4:block=128,dq");
    row("nf4:block=64", "nf4");
    row("nf4:dq=0", "nf4");
    row(" nf4:block=128 , dq ", "nf4:block=128,dq");
    row("fp8_e4m3:scale=channel", "fp8_e4m3:scale=channel");
    row("llm_int8:threshold=0.5", "llm_int8:threshold=0.5");
    row("llm_int8:threshold=0.50", "llm_int8:threshold=0.5");
    row("llm_int8:threshold=0", "llm_int8");
    row("int4:group=64,affine", "int4:group=64,affine");
    row("int4:affine=true,scope=group,group=128", "int4:affine");
    row("int8:group=64", "int8:scope=group,group=64");
    row("int8:group=128", "int8:scope=group");
    row("int8:scope=tensor,scales=fp32", "int8:scope=tensor,scales=fp32");
    row("int2:affine,group=128", "int2:affine");
    row("dynamic8:block=4096", "dynamic8");
    row("dynamic8:block=256", "dynamic8:block=256");
    row("mxfp4:scale=floor", "mxfp4");
    row("mxfp6_e2m3:scale=rceil", "mxfp6_e2m3:scale=rceil");
}

void TestRegistry::canonicalText() {
    QFETCH(QString, text);
    QFETCH(QString, canonical);
    const FormatSpec spec = parse_spec(text.toStdString());
    QCOMPARE(QString::fromStdString(spec.text()), canonical);
    QCOMPARE(parse_spec(spec.text()), spec);
}

std::string random_value(const FormatParameter& parameter, std::mt19937& random) {
    switch (parameter.kind) {
    case FormatParameter::Kind::flag:
        return random() % 2 != 0 ? "1" : "0";
    case FormatParameter::Kind::real:
        return std::to_string(static_cast<double>(random() % 10000) / 64.0);
    default:
        break;
    }
    if (!parameter.choices.empty())
        return parameter.choices[random() % parameter.choices.size()];
    const auto span = static_cast<unsigned>(parameter.maximum - parameter.minimum) + 1;
    return std::to_string(static_cast<unsigned>(parameter.minimum) + random() % span);
}

void TestRegistry::randomRoundTrip() {
    std::mt19937 random(1);
    for (const Format& entry : formats())
        for (int turn = 0; turn < 200; ++turn) {
            std::string text = entry.id;
            std::map<std::string, std::string> asked;
            for (const FormatParameter& parameter : entry.parameters)
                if (random() % 3 != 0)
                    asked[parameter.name] = random_value(parameter, random);
            if (asked.contains("group"))
                asked["scope"] = "group";
            for (const auto& [name, value] : asked)
                text += (text == entry.id ? ":" : ",") + name + "=" + value;
            const FormatSpec spec = parse_spec(text);
            QCOMPARE(parse_spec(spec.text()), spec);
            for (const auto& [name, value] : asked)
                if (entry.id != "llm_int8")
                    QCOMPARE(spec.parameters.at(name), value);
                else
                    QCOMPARE(spec.real(name), std::stod(value));
        }
}

void TestRegistry::lists() {
    const auto texts = [](const char* list) {
        std::vector<std::string> out;
        for (const FormatSpec& spec : parse_specs(list))
            out.push_back(spec.text());
        return out;
    };
    using Texts = std::vector<std::string>;
    QCOMPARE(texts("nf4:block=128,dq,int8"), (Texts{"nf4:block=128,dq", "int8"}));
    QCOMPARE(texts("nf4, int8 ,q4_0"), (Texts{"nf4", "int8", "q4_0"}));
    QCOMPARE(texts("int4:group=64,affine,scales=fp32,fp4:dq"), (Texts{"int4:group=64,affine,scales=fp32", "fp4:dq"}));
    QCOMPARE(texts("nf4,nf4:block=64,nf4:dq"), (Texts{"nf4", "nf4:dq"}));
    QVERIFY_EXCEPTION_THROWN(parse_specs("nf4,dq"), Error);
    QVERIFY_EXCEPTION_THROWN(parse_specs(""), Error);
    QVERIFY_EXCEPTION_THROWN(parse_specs("nf4,,int8"), Error);
}

void TestRegistry::errors_data() {
    QTest::addColumn<QString>("text");
    QTest::addColumn<QStringList>("words");
    const auto row = [](const char* text, const QStringList& words) { QTest::newRow(text) << text << words; };
    row("nf5", {"nf5", "did you mean nf4"});
    row("int9", {"did you mean int8"});
    row("nf4:block=100", {"format nf4", "'100'", "block", "32", "64", "4096"});
    row("nf4:block", {"format nf4", "block needs a value"});
    row("nf4:block=", {"block"});
    row("nf4:blok=64", {"'blok'", "block, dq"});
    row("nf4:dq=maybe", {"dq", "0 or 1"});
    row("nf4:dq,dq", {"dq is given twice"});
    row("q4_0:block=32", {"q4_0", "it takes none"});
    row("dynamic8:block=32", {"format dynamic8", "'32'", "64", "4096"});
    row("mxfp4:scale=up", {"'up'", "floor, ceil, even, rceil"});
    row("nvfp4:scale=floor", {"nvfp4", "it takes none"});
    row("mxfp6", {"did you mean mxfp"});
    row("fp8_e4m3:scale=row", {"'row'", "tensor, channel"});
    row("int4:group=4", {"group", "8 to 65536"});
    row("int4:group=64x", {"'64x'"});
    row("int8:scope=tensor,group=64", {"group", "scope=tensor"});
    row("llm_int8:threshold=-1", {"threshold", "0 to 65504"});
    row("llm_int8:threshold=nan", {"threshold"});
}

void TestRegistry::errors() {
    QFETCH(QString, text);
    QFETCH(QStringList, words);
    try {
        parse_spec(text.toStdString());
        QFAIL("accepted");
    } catch (const Error& error) {
        const QString message = error.what();
        for (const QString& word : words)
            QVERIFY2(message.contains(word), qPrintable(message));
        QVERIFY(!message.contains('\n'));
    }
}

void TestRegistry::fallback() {
    const FormatSpec q4 = parse_spec("q4_0"), nf4 = parse_spec("nf4");
    QCOMPARE(effective_spec(q4, {10, 64}), q4);
    QCOMPARE(effective_spec(q4, {64, 63}).text(), std::string("fp16"));
    QCOMPARE(effective_spec(nf4, {64, 63}), nf4);
    QVERIFY_EXCEPTION_THROWN(bind_codec(q4, {64, 63}), Error);
    // As llama.cpp, which has blocks of 32 for what is not a multiple of 256.
    for (const auto& [asked, stored] : std::map<std::string, std::string>{{"q2_K", "q4_0"},
                                                                          {"q3_K", "q4_0"},
                                                                          {"q4_K", "q5_0"},
                                                                          {"q5_K", "q5_1"},
                                                                          {"q6_K", "q8_0"},
                                                                          {"iq4_xs", "iq4_nl"},
                                                                          {"tq1_0", "q4_0"},
                                                                          {"tq2_0", "q4_0"}}) {
        const FormatSpec spec = parse_spec(asked);
        QCOMPARE(effective_spec(spec, {10, 512}), spec);
        QCOMPARE(effective_spec(spec, {10, 320}).text(), stored);
        QCOMPARE(effective_spec(spec, {10, 100}).text(), std::string("fp16"));
        QVERIFY_EXCEPTION_THROWN(bind_codec(spec, {10, 320}), Error);
    }
    for (const char* id : {"mxfp4", "nvfp4", "dynamic8", "int3"})
        QCOMPARE(effective_spec(parse_spec(id), {64, 63}), parse_spec(id));
}

void TestRegistry::nominalBits_data() {
    QTest::addColumn<double>("bits");
    QTest::addColumn<int>("block");
    const auto row = [](const char* spec, double bits, int block) { QTest::newRow(spec) << bits << block; };
    const double matrix = 4096.0 * 4096.0;
    row("fp32", 32, 1);
    row("bf16", 16, 1);
    row("fp8_e4m3", 8 + 32 / matrix, 0);
    row("fp8_e5m2:scale=channel", 8 + 32 / 4096.0, 0);
    row("int8", 8 + 16 / 4096.0, 0);
    row("int8:scope=tensor,scales=fp32", 8 + 32 / matrix, 0);
    row("int4", 4.125, 128);
    row("int4:affine", 4.15625, 128);
    row("int4:group=64,scales=fp32", 4.5, 64);
    row("int3", 3.125, 128);
    row("int3:affine", 3.125 + 3 / 128.0, 128);
    row("int2", 2.125, 128);
    row("llm_int8", 8 + 32 / 4096.0, 0);
    row("nf4", 4.5, 64);
    row("nf4:block=4096", 4 + 32 / 4096.0, 4096);
    row("nf4:dq", 4.126953125 + 32 / matrix, 64);
    row("fp4:block=128,dq", 4 + 8 / 128.0 + 32 / (128.0 * 256) + 32 / matrix, 128);
    row("q4_0", 4.5, 32);
    row("q4_1", 5, 32);
    row("q5_0", 5.5, 32);
    row("q5_1", 6, 32);
    row("q8_0", 8.5, 32);
    row("q2_K", 2.625, 256);
    row("q3_K", 3.4375, 256);
    row("q4_K", 4.5, 256);
    row("q5_K", 5.5, 256);
    row("q6_K", 6.5625, 256);
    row("iq4_nl", 4.5, 32);
    row("iq4_xs", 4.25, 256);
    row("tq1_0", 1.6875, 256);
    row("tq2_0", 2.0625, 256);
    row("q1_0", 1.125, 128);
    row("q2_0", 2.25, 64);
    row("mxfp4_ggml", 4.25, 32);
    row("nvfp4_ggml", 4.5, 64);
    row("dynamic8", 8 + 32 / 4096.0, 4096);
    row("dynamic8:block=256", 8.125, 256);
    row("mxfp8_e4m3", 8.25, 32);
    row("mxfp8_e5m2", 8.25, 32);
    row("mxfp6_e3m2", 6.25, 32);
    row("mxfp6_e2m3", 6.25, 32);
    row("mxfp4:scale=ceil", 4.25, 32);
    row("mxint8", 8.25, 32);
    row("nvfp4", 4.5 + 32 / matrix, 16);
}

void TestRegistry::nominalBits() {
    QFETCH(double, bits);
    QFETCH(int, block);
    const FormatSpec spec = parse_spec(QTest::currentDataTag());
    QCOMPARE(format(spec.id).nominal_bits(spec), bits);
    QCOMPARE(format(spec.id).block(spec), static_cast<std::size_t>(block));
}

QTEST_GUILESS_MAIN(TestRegistry)
#include "test_registry.moc"
