# Sources of core/analysis.
