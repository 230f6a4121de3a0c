#include <algorithm>
#include <array>

#include "core/model/tokenizer_readers.h"
#include "core/model/tokenizer_steps.h"

namespace qs {

namespace {

// The expressions are those of the models' own tokenizer.json, by the names of llama.cpp's src/llama-vocab.cpp.

constexpr std::string_view digit = R"(\p{N})";
constexpr std::string_view three_digits = R"(\p{N}{1,3})";
constexpr std::string_view gpt2 = gpt2_words;
constexpr std::string_view llama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view jais2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})";
constexpr std::string_view minicpm5 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view ufakzeka =
    R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view seed_coder =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view bailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view exaone_moe =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view tekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view gpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view youtu_scripts =
    "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+";
constexpr std::string_view youtu_words =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view deepseek_letters =
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)";
constexpr std::string_view deepseek_ideographs = "[一-龥ࠀ-一가-퟿]+";
constexpr std::string_view ideographs_and_kana = "[一-龥぀-ゟ゠-ヿ]+";
constexpr std::string_view deepseek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view bloom = R"( ?[^(\s|.,!?…。，、।۔،)]+)";
constexpr std::string_view lines = R"([^\n]+|[\n]+)";

const std::array<GgufPreTokenizer, 28>& table() {
    static const std::array<GgufPreTokenizer, 28> rows = {{
        {.names = "default", .patterns = {R"([\p{P}\$\+<=>\^~\|]+)", gpt2, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
        {.names = "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
         .patterns = {llama3},
         .ignore_merges = true,
         .adds_bos = true},
        {.names = "dbrx smaug-bpe chatglm-bpe glm4", .patterns = {llama3}},
        {.names = "jais-2", .patterns = {jais2}},
        {.names = "deepseek-llm",
         .patterns = {R"([\r\n])", deepseek_letters, R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)", R"(\s+$)",
                      deepseek_ideographs, R"(\p{N}+)"}},
        {.names = "deepseek-coder",
         .patterns = {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", deepseek_ideographs, digit}},
        {.names = "deepseek-v3 hunyuan-dense joyai-llm hy_v4",
         .patterns = {three_digits, ideographs_and_kana, deepseek3}},
        {.names = "youtu", .patterns = {youtu_scripts, youtu_words}, .ignore_merges = true},
        {.names = "falcon", .patterns = {R"([\p{P}\$\+<=>\^~\|`]+)", gpt2, "[0-9][0-9][0-9]"}},
        {.names = "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2", .patterns = {digit, gpt2}},
        {.names = "gpt-2 phi-2 mpt olmo jais trillion granite-docling gigachat mellum modern-bert exaone4 a.x-4.0 "
                  "jina-es jina-de jina-v2-es jina-v2-de jina-v1-en jina-v2-code roberta-bpe",
         .patterns = {gpt2}},
        {.names = "qwen2 stablelm2 hunyuan solar-open megrez grok-2 deepseek-r1-qwen kormo f2llmv2",
         .patterns = {qwen2}},
        {.names = "qwen35", .patterns = {qwen35}},
        {.names = "poro-chat bloom gpt3-finnish", .patterns = {bloom}},
        {.names = "viking", .patterns = {bloom, digit}},
        {.names = "tekken", .patterns = {tekken}, .ignore_merges = true, .adds_bos = true},
        {.names = "chameleon",
         .patterns = {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", R"(([\t\n]|    |  ))", digit,
                      R"([\p{P}!-/:-@\[-`{-~])", gpt2},
         .adds_bos = true},
        {.names = "gpt-4o llama4 kanana2 talkie minimax-m2", .patterns = {gpt4o}},
        {.names = "tiny_aya cohere2moe", .patterns = {R"(\d{1,3}(?=(?:\d{3})*\b))", gpt4o}},
        {.names = "superbpe", .patterns = {R"(\p{N}+)", R"((?=(\d{3})+(?!\d)))"}},
        {.names = "bailingmoe bailingmoe2 llada-moe", .patterns = {bailing}},
        {.names = "seed-coder", .patterns = {seed_coder}},
        {.names = "exaone-moe", .patterns = {exaone_moe}},
        {.names = "laguna", .patterns = {lines, qwen2}},
        {.names = "minicpm5", .patterns = {three_digits, minicpm5}, .ignore_merges = true},
        {.names = "ufakzeka", .patterns = {ufakzeka}},
        // A run of line breaks is a token of its own where there is one.
        {.names = "gemma4 granite-embed-multi-311m", .patterns = {lines}, .adds_bos = true, .raw_text = true},
        {.names = "sarvam-moe", .patterns = {lines}, .raw_text = true},
    }};
    return rows;
}

} // namespace

std::span<const GgufPreTokenizer> gguf_pre_tokenizers() {
    return table();
}

const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name) {
    for (const GgufPreTokenizer& row : table())
        for (std::string_view rest = row.names; !rest.empty();) {
            const std::size_t end = std::min(rest.find(' '), rest.size());
            if (!name.empty() && rest.substr(0, end) == name)
                return &row;
            rest.remove_prefix(std::min(end + 1, rest.size()));
        }
    return nullptr;
}

} // namespace qs
