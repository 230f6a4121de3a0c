# Sources of core/model's tokenizers.
target_sources(quantoscope_core PRIVATE
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_added.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_bpe.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_decoders.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_gguf.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_gguf_patterns.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_huggingface.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_ids.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_llama2c.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_normalizers.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_pipeline.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_pre_tokenizers.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_precompiled.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_regex.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_scored.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_sentencepiece.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_unicode.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_unigram.cpp
  ${CMAKE_CURRENT_LIST_DIR}/tokenizer_vocabulary.cpp)

# None of the three comes with a CMake package on Debian.
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
target_link_libraries(quantoscope_core PRIVATE PkgConfig::PCRE2 PkgConfig::SENTENCEPIECE PkgConfig::UTF8PROC)
