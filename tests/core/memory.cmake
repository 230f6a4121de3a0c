quantoscope_test(test_cards SOURCES core/memory/test_cards.cpp LABELS unit)
quantoscope_test(test_ledger SOURCES core/memory/test_ledger.cpp LABELS unit)
