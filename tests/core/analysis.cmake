quantoscope_test(test_statistics SOURCES core/analysis/test_statistics.cpp LABELS unit)
quantoscope_test(test_pipeline SOURCES core/analysis/test_pipeline.cpp LABELS unit)
quantoscope_test(test_bins SOURCES core/analysis/test_bins.cpp LABELS unit)
quantoscope_test(test_recipe SOURCES core/analysis/test_recipe.cpp LABELS unit)
