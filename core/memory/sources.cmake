target_sources(quantoscope_core PRIVATE
  memory/architectures.cpp
  memory/checkpoint_card.cpp
  memory/config_card.cpp
  memory/gpus.cpp
  memory/keys.cpp
  memory/ledger.cpp
  memory/model_cards.cpp)
