# Sources of core/checkpoint.
